package stack

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// startKafka is StartKafka for tests that may run beside each other.
func startKafka(t *testing.T, spec KafkaSpec) *Kafka {
	t.Helper()
	if testing.Short() {
		t.Skip("starts Kafka")
	}
	t.Parallel()
	began := time.Now()
	k := StartKafka(t, spec)
	t.Logf("%d brokers are ready after %s", len(k.Brokers), time.Since(began).Round(10*time.Millisecond))
	return k
}

// tool runs one of Kafka's tools and returns what it prints.
func tool(t *testing.T, k *Kafka, class string, args ...string) string {
	t.Helper()
	out, err := k.Tool(t.Context(), "org.apache.kafka.tools."+class, append(args, "--bootstrap-server", k.Bootstrap())...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// topic makes a topic with the copies and the min.insync.replicas of ingestgw's.
func topic(t *testing.T, k *Kafka, name string) {
	t.Helper()
	tool(t, k, "TopicCommand", "--create", "--topic", name, "--partitions", "2", "--config", "min.insync.replicas=2",
		"--replication-factor", fmt.Sprint(min(3, len(k.Brokers))))
}

// produce appends n messages, "0", "1" and so on, each of which has been acknowledged by all replicas.
func produce(t *testing.T, k *Kafka, topic string, n int) {
	t.Helper()
	out := tool(t, k, "ProducerPerformance", "--topic", topic, "--num-records", fmt.Sprint(n), "--throughput", "-1",
		"--payload-monotonic", "--command-property", "acks=all")
	if want := fmt.Sprintf("%d records sent", n); !strings.Contains(out, want) {
		t.Fatalf("%q is not in what the producer says: %s", want, out)
	}
}

// consume reads the next n messages for a group, which commits them.
func consume(t *testing.T, k *Kafka, topic, group string, n int) []string {
	t.Helper()
	out := tool(t, k, "consumer.ConsoleConsumer", "--topic", topic, "--group", group, "--from-beginning",
		"--max-messages", fmt.Sprint(n), "--timeout-ms", "60000")
	return slices.Sorted(slices.Values(strings.Fields(out)))
}

// progress is what a group has committed, what there is, and the difference, over all partitions.
func progress(t *testing.T, k *Kafka, group string) (sum GroupOffset) {
	t.Helper()
	offsets, err := k.GroupOffsets(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range offsets {
		sum.Committed, sum.End, sum.Lag = sum.Committed+o.Committed, sum.End+o.End, sum.Lag+o.Lag
	}
	return sum
}

func TestKafkaKeepsDataAndAddressOverKills(t *testing.T) {
	k := startKafka(t, KafkaSpec{})
	topic(t, k, "survivor")
	produce(t, k, "survivor", 5)
	before := consume(t, k, "survivor", "group", 2)

	address := k.Bootstrap()
	k.Brokers[0].Kill()
	if err := k.Brokers[0].Restart(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if k.Bootstrap() != address {
		t.Errorf("it was at %s and is at %s", address, k.Bootstrap())
	}
	if got, want := progress(t, k, "group"), (GroupOffset{Committed: 2, End: 5, Lag: 3}); got != want {
		t.Errorf("after the restart the group is at %+v, want %+v", got, want)
	}
	rest := consume(t, k, "survivor", "group", 3)
	if got := slices.Sorted(slices.Values(slices.Concat(before, rest))); !slices.Equal(got, strings.Fields("0 1 2 3 4")) {
		t.Errorf("consumed %v before the kill and %v after it", before, rest)
	}
	if err := k.Brokers[0].Stop(t.Context()); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
}

func TestNextKafkaGoesOnWithTheData(t *testing.T) {
	dir := t.TempDir()
	first := startKafka(t, KafkaSpec{Dir: dir})
	topic(t, first, "heirloom")
	first.Close()

	second := StartKafka(t, KafkaSpec{Dir: dir, Config: map[string]string{"num.io.threads": "3"}})
	if first.Bootstrap() == second.Bootstrap() {
		t.Errorf("both are at %s, so this does not show that the address may change", first.Bootstrap())
	}
	if topics := strings.Fields(tool(t, second, "TopicCommand", "--list")); !slices.Equal(topics, []string{"heirloom"}) {
		t.Errorf("topics are %q", topics)
	}
}

func TestThreeBrokersDoWithoutOne(t *testing.T) {
	k := startKafka(t, KafkaSpec{Brokers: 3})
	topic(t, k, "shared")
	killed := k.Brokers[0]
	killed.Kill()
	for _, p := range k.Brokers[1:] {
		if err := p.awaitBrokers(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
	}
	produce(t, k, "shared", 5)
	if err := killed.Restart(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for _, p := range k.Brokers {
		if err := p.awaitBrokers(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
	}
	if got := consume(t, k, "shared", "group", 5); !slices.Equal(got, strings.Fields("0 1 2 3 4")) {
		t.Errorf("consumed %v of what two brokers had acknowledged", got)
	}
}

func TestSettingsOfASpecWin(t *testing.T) {
	broker := &Process{ports: map[string]*port{"controller": {addr: "127.0.0.1:1"}}}
	text := properties(KafkaSpec{Config: map[string]string{"num.io.threads": "7", "log.retention.ms": "1"}}, 0, []*Process{broker})
	for _, line := range []string{"num.io.threads=7", "log.retention.ms=1", "controller.quorum.voters=0@127.0.0.1:1", "default.replication.factor=1"} {
		if strings.Count(text, line+"\n") != 1 {
			t.Errorf("%s does not stand once in\n%s", line, text)
		}
	}
	if strings.Count(text, "num.io.threads") != 1 {
		t.Errorf("our own number of threads is still there:\n%s", text)
	}
}

func TestTableOfAGroupIsRead(t *testing.T) {
	const header = "\nGROUP  TOPIC  PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG  CONSUMER-ID  HOST  CLIENT-ID\n"
	for name, c := range map[string]struct {
		text string
		want map[TopicPartition]GroupOffset
		err  string
	}{
		"with and without a commit": {
			text: "Consumer group 'g' has no active members.\n" + header + "g t 0 5 10 5 - - -\ng t 1 - 3 - - - -\n",
			want: map[TopicPartition]GroupOffset{{"t", 0}: {5, 10, 5}, {"t", 1}: {-1, 3, -1}},
		},
		"a member without partitions": {
			text: header + "g t 0 5 10 5 m-1 /127.0.0.1 c\ng - - - - - m-2 /127.0.0.1 c\n",
			want: map[TopicPartition]GroupOffset{{"t", 0}: {5, 10, 5}},
		},
		"an empty group":   {text: header},
		"a failure":        {text: "\nError: Group g not found.\n", err: "Group g not found"},
		"another language": {text: header + "g t 0 five 10 5 - - -\n", err: "CURRENT-OFFSET"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := groupOffsets(c.text)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("%v, %v; want an error with %q", got, err, c.err)
				}
				return
			}
			if err != nil || !maps.Equal(got, c.want) {
				t.Errorf("%v, %v; want %v", got, err, c.want)
			}
		})
	}
}

func TestNodeIDsAreReadFromMetadata(t *testing.T) {
	answer := []byte("\x00\x00\x00\x00" + "\x00\x00\x00\x02" +
		"\x00\x00\x00\x00" + "\x00\x09127.0.0.1" + "\x00\x00\x23\x84" + "\xff\xff" +
		"\x00\x00\x00\x02" + "\x00\x09127.0.0.1" + "\x00\x00\x23\x85" + "\x00\x01a")
	ids, err := nodeIDs(append(slices.Clone(answer), "\x00\x00\x00\x02 and more"...))
	if err != nil || !slices.Equal(ids, []int{0, 2}) {
		t.Fatalf("%v, %v", ids, err)
	}
	for n := range len(answer) - 1 { // the last byte is the rack's, which nobody reads
		if ids, err := nodeIDs(answer[:n]); err == nil {
			t.Fatalf("the first %d bytes are taken for %v", n, ids)
		}
	}
}
