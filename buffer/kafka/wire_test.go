package kafka

import (
	"encoding/binary"
	"io"
	"maps"
	"net"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A wire stands between brokers and their clients. It sees every request and every answer, and can hold, cut and spoil them.
type wire struct {
	mu     sync.Mutex
	frozen map[int]chan struct{} // by node; closed when it thaws
	held   map[int]int           // by node: requests that store a block which it has not read, as it was frozen
	answer func(key kmsg.Key, frame []byte) (cut bool)
	seen   map[version]int
}

// A version of a request of Kafka's protocol.
type version struct{ key, version int16 }

func newWire() *wire {
	return &wire{frozen: map[int]chan struct{}{}, held: map[int]int{}, seen: map[version]int{}}
}

// listen is for kfake.ListenFn. Nodes are numbered in the order in which they listen, as kfake does.
func (w *wire) listen() func(network, address string) (net.Listener, error) {
	nodes := 0
	return func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		node := nodes
		nodes++
		return &wireListener{Listener: l, wire: w, node: node}, err
	}
}

// proxy passes connections on to a broker until the test ends, and returns the address where it listens.
func (w *wire) proxy(t *testing.T, broker func() string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var under sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		under.Wait()
	})
	listener := &wireListener{Listener: l, wire: w}
	under.Go(func() { // ends when l is closed
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", broker())
			if err != nil {
				client.Close()
				continue
			}
			under.Go(func() { // ends when either side closes its connection
				defer client.Close()
				_, _ = io.Copy(client, server)
			})
			under.Go(func() {
				defer server.Close()
				_, _ = io.Copy(server, client)
			})
		}
	})
	return l.Addr().String()
}

// freeze makes a node take connections and do nothing any more, as with SIGSTOP, until thaw.
func (w *wire) freeze(node int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frozen[node] = make(chan struct{})
}

func (w *wire) thaw(node int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.frozen[node])
	delete(w.frozen, node)
}

func (w *wire) heldBy(node int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.held[node]
}

// onAnswer has do look at the answers from now on: it may change them in place, and cut the connection in the middle of one.
func (w *wire) onAnswer(do func(key kmsg.Key, frame []byte) (cut bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = do
}

func (w *wire) versions() map[version]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.seen)
}

type wireListener struct {
	net.Listener
	wire *wire
	node int
}

func (l *wireListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &wireConn{Conn: conn, wire: l.wire, node: l.node, gone: make(chan struct{}), keys: map[uint32]kmsg.Key{}}, nil
}

// A wireConn is the broker's end of a connection.
type wireConn struct {
	net.Conn
	wire *wire
	node int
	gone chan struct{} // closed with the connection
	once sync.Once

	in, out frames
	mu      sync.Mutex
	keys    map[uint32]kmsg.Key // of requests without an answer, by their number
}

func (c *wireConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	held := 0
	complete := c.in.add(b[:n])
	for _, f := range complete {
		key, v, number := int16(binary.BigEndian.Uint16(f[4:])), int16(binary.BigEndian.Uint16(f[6:])), binary.BigEndian.Uint32(f[8:])
		c.mu.Lock()
		c.keys[number] = kmsg.Key(key)
		c.mu.Unlock()
		c.wire.mu.Lock()
		c.wire.seen[version{key, v}]++
		c.wire.mu.Unlock()
		if kmsg.Key(key) == kmsg.Produce {
			held++
		}
	}
	if len(complete) > 0 {
		c.await(held)
	}
	return n, err
}

func (c *wireConn) Write(b []byte) (int, error) {
	c.await(0)
	for _, f := range c.out.add(b) {
		number := binary.BigEndian.Uint32(f[4:])
		c.mu.Lock()
		key := c.keys[number]
		delete(c.keys, number)
		c.mu.Unlock()
		c.wire.mu.Lock()
		cut := c.wire.answer != nil && c.wire.answer(key, f)
		c.wire.mu.Unlock()
		if cut {
			_, _ = c.Conn.Write(f[:len(f)/2])
			c.Close()
			return 0, net.ErrClosed
		}
		if _, err := c.Conn.Write(f); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// await waits while the node is frozen.
func (c *wireConn) await(held int) {
	c.wire.mu.Lock()
	thawed := c.wire.frozen[c.node]
	if thawed != nil {
		c.wire.held[c.node] += held
	}
	c.wire.mu.Unlock()
	if thawed == nil {
		return
	}
	select {
	case <-thawed:
	case <-c.gone:
	}
}

func (c *wireConn) Close() error {
	c.once.Do(func() { close(c.gone) })
	return c.Conn.Close()
}

// frames are what a direction of a connection consists of: each begins with the number of bytes that follow.
type frames struct{ rest []byte }

// add returns the frames that are complete now. They are valid until the next call.
func (f *frames) add(b []byte) (complete [][]byte) {
	f.rest = append(append([]byte(nil), f.rest...), b...)
	for len(f.rest) >= 4 {
		size := 4 + int(binary.BigEndian.Uint32(f.rest))
		if len(f.rest) < size {
			break
		}
		complete, f.rest = append(complete, f.rest[:size]), f.rest[size:]
	}
	return complete
}
