package stack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// isAlive returns nil when the broker answers and counts itself, which has that node id, among the brokers that are alive. It listens
// earlier than that, but nobody is sent to it then.
func (p *Process) isAlive(ctx context.Context, id int) error {
	alive, err := p.brokersAlive(ctx)
	if err == nil && !slices.Contains(alive, id) {
		err = fmt.Errorf("it knows of brokers %v, not of itself", alive)
	}
	return err
}

// awaitBrokers returns when the broker knows of so many that are alive.
func (p *Process) awaitBrokers(ctx context.Context, want int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		alive, err := p.brokersAlive(ctx)
		if err == nil && len(alive) == want {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s knows of brokers %v, not of %d of them: %w", p.Name(), alive, want, errors.Join(err, ctx.Err()))
		}
	}
}

// metadataRequest is the request of Kafka's protocol that is answered with the brokers: Metadata, version 1, for no topics
// (https://kafka.apache.org/protocol.html#The_Messages_Metadata).
var metadataRequest = []byte{
	0, 0, 0, 14, // bytes that follow
	0, 3, // Metadata
	0, 1, // version
	0, 0, 0, 0, // a number that is in the answer too
	0xff, 0xff, // no client id
	0, 0, 0, 0, // topics
}

// brokersAlive are the node ids of all brokers that this one takes for alive.
func (p *Process) brokersAlive(ctx context.Context) ([]int, error) {
	const within = 2 * time.Second
	dialer := net.Dialer{Timeout: within}
	conn, err := dialer.DialContext(ctx, "tcp", p.AddrOf("kafka"))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(within))
	if _, err := conn.Write(metadataRequest); err != nil {
		return nil, err
	}
	var size int32
	if err := binary.Read(conn, binary.BigEndian, &size); err != nil {
		return nil, err
	}
	if size < 0 || size > 1<<20 {
		return nil, fmt.Errorf("%s answers with %d bytes, which is not Kafka's protocol", p.Name(), size)
	}
	answer := make([]byte, size)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return nil, err
	}
	return nodeIDs(answer)
}

// nodeIDs reads the answer to metadataRequest: the number of the request, how many brokers follow, and of each its node id, host,
// port and rack.
func nodeIDs(answer []byte) ([]int, error) {
	r := bytes.NewReader(answer)
	var head struct{ Request, Brokers int32 }
	if err := binary.Read(r, binary.BigEndian, &head); err != nil {
		return nil, fmt.Errorf("read Kafka's metadata: %w", err)
	}
	var ids []int
	for range head.Brokers {
		var id, port int32
		var host, rack int16 // their lengths; -1 is no rack
		for _, field := range []any{&id, &host, &port, &rack} {
			if err := binary.Read(r, binary.BigEndian, field); err != nil {
				return nil, fmt.Errorf("read Kafka's metadata: %w", err)
			}
			if length, ok := field.(*int16); ok && *length > 0 {
				_, _ = r.Seek(int64(*length), io.SeekCurrent) // beyond the end, the next read fails
			}
		}
		ids = append(ids, int(id))
	}
	return ids, nil
}
