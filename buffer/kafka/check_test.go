package kafka

import (
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/internal/credentials/credentialstest"
)

// said is what Check finds, a line each.
func said(t *testing.T, cfg Config, f Forwarding) string {
	t.Helper()
	var all strings.Builder
	for _, f := range Check(soon(t), cfg, f, slog.New(slog.DiscardHandler)) {
		fmt.Fprintf(&all, "%s %s: %s\n", [...]string{"ok", "warn", "FAIL"}[f.Verdict], f.What, f.Text)
	}
	return all.String()
}

// wantSaid fails unless some line begins with each text.
func wantSaid(t *testing.T, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains("\n"+got, "\n"+w) {
			t.Errorf("no line begins with %q in:\n%s", w, got)
		}
	}
}

// wantNot fails if a text is there.
func wantNot(t *testing.T, got string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(got, text) {
			t.Errorf("%q is in:\n%s", text, got)
		}
	}
}

func TestCheckReachesEveryBroker(t *testing.T) {
	t.Parallel()
	brokers := fakeKafka(t).ListenAddrs()
	cfg := testConfig([]string{"127.0.0.1:1", "kafka.invalid:9092", brokers[0]})
	got := said(t, cfg, Elsewhere)
	wantSaid(t, got, "FAIL broker 127.0.0.1:1 (INGESTGW_KAFKA_BROKERS): ", "FAIL broker kafka.invalid:9092 (INGESTGW_KAFKA_BROKERS): ",
		"ok broker "+brokers[0]+" (INGESTGW_KAFKA_BROKERS): answers\n",
		"ok broker "+brokers[1]+" (named by the cluster): answers\n", "ok broker "+brokers[2]+" (named by the cluster): answers\n")
	if n := strings.Count(got, "refused: start the broker, or look at INGESTGW_KAFKA_BROKERS\n"); n != 1 {
		t.Errorf("%d brokers are said to refuse the connection:\n%s", n, got)
	}
	wantNot(t, got, "group")
	wantSaid(t, said(t, testConfig([]string{"127.0.0.1:1"}), Possible), "FAIL broker 127.0.0.1:1")
}

func TestCheckSaysWhichSettingToChange(t *testing.T) {
	t.Parallel()
	ours, others := credentialstest.NewAuthority(t, "ours"), credentialstest.NewAuthority(t, "others")
	plain, sasl := fakeKafka(t), fakeKafka(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "gateway", "secret"))
	oneWay, mutual := secureKafka(t, ours, false), secureKafka(t, ours, true)
	for name, c := range map[string]struct {
		cluster *kfake.Cluster
		change  func(*Config)
		want    string
	}{
		"TLS where there is none":    {plain, func(c *Config) { c.TLS.Enabled, c.TLS.CAFile = true, ours.File(t) }, "INGESTGW_KAFKA_TLS_"},
		"no TLS where there is":      {oneWay, func(*Config) {}, "INGESTGW_KAFKA_TLS_"},
		"another authority":          {oneWay, func(c *Config) { c.TLS.Enabled, c.TLS.CAFile = true, others.File(t) }, "INGESTGW_KAFKA_TLS_CA_FILE"},
		"no certificate":             {mutual, func(c *Config) { c.TLS.Enabled, c.TLS.CAFile = true, ours.File(t) }, "INGESTGW_KAFKA_TLS_CERT_FILE"},
		"no SASL where there is":     {sasl, func(*Config) {}, "INGESTGW_KAFKA_SASL_"},
		"another password":           {sasl, func(c *Config) { c.SASL = SASLConfig{saslPlain, "gateway", textFile(t, "other")} }, "INGESTGW_KAFKA_SASL_"},
		"another mechanism":          {sasl, func(c *Config) { c.SASL = SASLConfig{saslSCRAM256, "gateway", textFile(t, "secret")} }, "INGESTGW_KAFKA_SASL_"},
		"a file that cannot be read": {sasl, func(c *Config) { c.SASL = SASLConfig{saslPlain, "gateway", "/nonexistent"} }, "INGESTGW_KAFKA_SASL_PASSWORD_FILE"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(c.cluster.ListenAddrs()[:1])
			c.change(&cfg)
			got := said(t, cfg, Possible)
			if !strings.HasPrefix(got, "FAIL ") || strings.Count(got, "\n") != 1 || !strings.Contains(got, c.want) {
				t.Errorf("want one failure that names %s:\n%s", c.want, got)
			}
			wantNot(t, got, "secret", "other\n")
		})
	}
}

func TestCheckLooksAtTheTopic(t *testing.T) {
	t.Parallel()
	brokers := fakeKafka(t).ListenAddrs()
	cfg := testConfig(brokers)
	what := "topic " + cfg.TopicPrefix + "-main: "
	cfg.CreateTopics = false
	wantSaid(t, said(t, cfg, Possible), "FAIL "+what+"does not exist, or this user may not see it: create it, or set INGESTGW_KAFKA_CREATE_TOPICS=true")
	cfg.CreateTopics = true
	got := said(t, cfg, Possible)
	wantSaid(t, got, "ok "+what+"does not exist; it will be created with 3 partitions on 3 brokers each")
	wantNot(t, got, "group", "warn", "FAIL")
	cfg.Replication, cfg.Retention = 2, 5*time.Hour
	wantSaid(t, said(t, cfg, Possible), "warn "+what+"replication: it would be 2, want 3", "warn "+what+"retention.ms: INGESTGW_KAFKA_RETENTION=5h0m0s")
	cfg.Replication, cfg.Retention = 3, 72*time.Hour

	mustOpen(t, cfg, nil)
	got = said(t, cfg, Possible)
	wantSaid(t, got, "ok "+what+"3 partitions on 3 of 3 brokers each", "ok "+what+"its settings are safe")
	wantNot(t, got, "warn", "FAIL")

	weak := testConfig(brokers)
	weak.Replication = 1
	mustOpen(t, weak, nil)
	fault := " topic " + weak.TopicPrefix + "-main: acknowledged samples are not safe: replication: 1, want 3"
	wantSaid(t, said(t, weak, Possible), "warn"+fault)
	weak.Strict = true
	wantSaid(t, said(t, weak, Possible), "FAIL"+fault)
}

// What a Store warns of, or refuses, Check tells in the same words.
func TestCheckJudgesATopicAsAStoreDoes(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	cfg.Replication, cfg.Retention = 2, time.Hour
	mustOpen(t, cfg, nil)
	cfg.Strict = true
	_, err := open(t.Context(), cfg, slog.New(slog.DiscardHandler), nil, nil)
	if err == nil {
		t.Fatal("the topic is not refused")
	}
	_, faults, _ := strings.Cut(err.Error(), "INGESTGW_KAFKA_STRICT=true: ")
	got := said(t, cfg, Possible)
	for _, fault := range strings.Split(faults, "; ") {
		wantSaid(t, got, "FAIL topic "+cfg.TopicPrefix+"-main: acknowledged samples are not safe: "+fault)
	}
	if n := strings.Count(got, "FAIL topic "+cfg.topic(buffer.Main)); n != strings.Count(faults, "; ")+1 || n < 2 {
		t.Errorf("%d failures, the Store tells of\n%s\n%s", n, faults, got)
	}
}

func TestCheckLooksAtReplicas(t *testing.T) {
	t.Parallel()
	one, two, three := kafka.Broker{Host: "a", ID: 1}, kafka.Broker{Host: "b", ID: 2}, kafka.Broker{Host: "c", ID: 3}
	all := []kafka.Broker{one, two, three}
	for want, p := range map[string]kafka.Partition{
		"":                             {Leader: one, Replicas: all, Isr: all},
		"FAIL t: partition 7 has no l": {ID: 7, Leader: kafka.Broker{}, Replicas: all, Isr: all},
		"FAIL t: partition 7 has fewer replicas in sync than min.insync.replicas=2": {ID: 7, Leader: one, Replicas: all, Isr: all[:1]},
		"warn t: partition 7 has replicas that are not in sync":                     {ID: 7, Leader: one, Replicas: all, Isr: all[:2]},
	} {
		c := &checking{}
		c.replicas("t", []kafka.Partition{p, {ID: 8, Leader: one, Replicas: all, Isr: all}}, 2)
		got := ""
		for _, f := range c.findings {
			got += [...]string{"ok", "warn", "FAIL"}[f.Verdict] + " " + f.What + ": " + f.Text
		}
		if !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%+v: %q, want %q", p, got, want)
		}
	}
}

func TestCheckLooksAtTheGroup(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	cfg.Group = cfg.TopicPrefix
	group, main, bulk := "group "+cfg.Group+": ", "group "+cfg.Group+", topic "+cfg.topic(buffer.Main)+": ", "group "+cfg.Group+", topic "+cfg.topic(buffer.Bulk)+": "
	s := mustOpen(t, cfg, nil)
	got := said(t, cfg, Possible)
	wantSaid(t, got, "ok "+group+"has no members: nobody forwards now", "ok "+main+"blocks that are not settled: 0\n", "ok "+bulk+"blocks that are not settled: 0\n")
	wantSaid(t, said(t, cfg, UnderWay), "warn "+group+"has no members, though an ingestgw runs that forwards")
	wantNot(t, said(t, cfg, Elsewhere), group)

	first := consume(t, s, cfg.Group)
	first.owns(3)
	got = said(t, cfg, UnderWay)
	wantSaid(t, got, "ok "+main+"members: 1; partitions that they forward: 3 at 127.0.0.1", "warn "+bulk+"partitions 0, 1, 2 have no owner")
	first.stop()
	all := consumeLanes(t, s, cfg.Group, buffer.Main, buffer.Bulk)
	owned := all.ownsOf(buffer.Main, 3)
	all.ownsOf(buffer.Bulk, 3)
	got = said(t, cfg, UnderWay)
	wantSaid(t, got, "ok "+main+"members: 1; partitions that they forward: 3 at 127.0.0.1", "ok "+bulk+"members: 1; partitions that they forward: 3 at 127.0.0.1")
	wantNot(t, got, "warn", "FAIL")

	put(t, s, 5)
	got = said(t, cfg, UnderWay)
	wantSaid(t, got, "ok "+main+"blocks that are not settled: 5; the oldest is ")
	wantNot(t, got, "warn", "FAIL")
	if !regexp.MustCompile(`the oldest is \d+s old, and Kafka keeps blocks for 72h0m0s`).MatchString(got) {
		t.Error(got)
	}
	for _, p := range owned {
		_, next, err := p.Bounds(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		save(t, p, next)
	}
	wantSaid(t, said(t, cfg, UnderWay), "ok "+main+"blocks that are not settled: 0\n")
}

func TestCheckRecognisesATopicThatIsShorterThanWhatWasForwarded(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	cfg.Group, cfg.Partitions = cfg.TopicPrefix, 1
	s := mustOpen(t, cfg, nil)
	put(t, s, 5)
	group := consume(t, s, cfg.Group)
	save(t, group.one(), 5)
	group.stop()
	was := c.GroupInfo(cfg.Group).Commits[s.lane(buffer.Main).topic][0]
	remake(t, c, s.lane(buffer.Main).topic, 1)
	recommit(t, s, cfg.Group, was) // a coordinator may have known nothing of it
	wantSaid(t, said(t, cfg, Possible), "warn group "+cfg.Group+", topic "+cfg.topic(buffer.Main)+": has committed more of partition 0 than there is: the topic was made anew")
}

// A member of an older generation of software may leave partitions alone.
func TestCheckFindsPartitionsWithoutAnOwner(t *testing.T) {
	t.Parallel()
	cfg := testConfig(fakeKafka(t).ListenAddrs())
	cfg.Group = cfg.TopicPrefix
	topic := mustOpen(t, cfg, nil).lane(buffer.Main).topic
	lazy, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: cfg.Group, Brokers: cfg.Brokers, Topics: []string{topic}, GroupBalancers: []kafka.GroupBalancer{firstOnly{}},
		HeartbeatInterval: 200 * time.Millisecond, SessionTimeout: 6 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer lazy.Close()
	if _, err := lazy.Next(soon(t)); err != nil {
		t.Fatal(err)
	}
	wantSaid(t, said(t, cfg, Possible), "ok group "+cfg.Group+", topic "+cfg.topic(buffer.Main)+": members: 1; partitions that they forward: 1 at 127.0.0.1",
		"warn group "+cfg.Group+", topic "+cfg.topic(buffer.Main)+": partitions 1, 2 have no owner")
}

// firstOnly is a balancer that hands out the first partition and no other.
type firstOnly struct{ kafka.RangeGroupBalancer }

func (firstOnly) AssignGroups(members []kafka.GroupMember, partitions []kafka.Partition) kafka.GroupMemberAssignments {
	return kafka.GroupMemberAssignments{members[0].ID: {partitions[0].Topic: {0}}}
}

func TestCheckComparesTheBacklogWithTheRetention(t *testing.T) {
	t.Parallel()
	topic := &checkedTopic{lane: &lane{topic: "t"}, config: map[string]string{"retention.ms": "36000000"}}
	forever := &checkedTopic{lane: &lane{topic: "t"}, config: map[string]string{"retention.ms": "-1"}}
	for _, c := range []struct {
		topic *checkedTopic
		age   time.Duration
		want  string
	}{
		{topic, 4 * time.Hour, "ok g: blocks that are not settled: 3; the oldest is 4h0m0s old, and Kafka keeps blocks for 10h0m0s"},
		{topic, 6 * time.Hour, "warn g: blocks that are not settled: 3; the oldest is 6h0m0s old, and Kafka removes blocks after 10h0m0s, forwarded or not: " +
			"raise retention.ms of topic t"},
		{topic, -time.Hour, "ok g: blocks that are not settled: 3; the oldest is 0s old"}, // clocks lie
		{forever, 1000 * time.Hour, "ok g: blocks that are not settled: 3; the oldest is 1000h0m0s old"},
	} {
		checking := &checking{}
		checking.retention("g", c.topic, 3, time.Now().Add(-c.age))
		f := checking.findings[0]
		if got := [...]string{"ok", "warn", "FAIL"}[f.Verdict] + " " + f.What + ": " + f.Text; !strings.HasPrefix(got, c.want) {
			t.Errorf("%v: %q, want %q", c.age, got, c.want)
		}
	}
}

func TestCheckTellsOfBlocksThatRetentionOvertook(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	cfg.Group, cfg.Partitions = cfg.TopicPrefix, 1
	s := mustOpen(t, cfg, nil)
	put(t, s, 5)
	group := consume(t, s, cfg.Group)
	save(t, group.one(), 1)
	group.stop()
	if err := c.DeleteRecords(s.lane(buffer.Main).topic, 0, 3); err != nil {
		t.Fatal(err)
	}
	wantSaid(t, said(t, cfg, Possible), "warn group "+cfg.Group+", topic "+cfg.topic(buffer.Main)+": had not forwarded all of partition 0 when Kafka removed it",
		"ok group "+cfg.Group+", topic "+cfg.topic(buffer.Main)+": blocks that are not settled: 2; the oldest is ")
}

// The topic is created by the command that README tells.
func TestCheckOnApacheKafka(t *testing.T) {
	k := realKafka(t, 3, nil)
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile(`kafka-topics\.sh (--bootstrap-server \S+ --create (?:.*\\\n)*.*)`).FindSubmatch(readme)
	if command == nil {
		t.Fatal("README does not say how to create the topic")
	}
	for _, topic := range []string{"ingestgw-main", "ingestgw-bulk"} {
		args := strings.Fields(strings.NewReplacer("\\\n", " ", "$topic", topic).Replace(string(command[1])))
		args[1] = k.Bootstrap()
		if out, err := k.Tool(soon(t), "org.apache.kafka.tools.TopicCommand", args...); err != nil {
			t.Fatal(err, out)
		}
	}

	cfg := testConfig(k.Addrs())
	cfg.TopicPrefix, cfg.Group, cfg.Strict = "ingestgw", "ingestgw", true
	got := said(t, cfg, Possible)
	wantSaid(t, got, "ok topic ingestgw-main: 12 partitions on 3 of 3 brokers each", "ok topic ingestgw-main: its settings are safe",
		"ok topic ingestgw-bulk: its settings are safe",
		"ok group ingestgw: has no members: nobody forwards now", "ok group ingestgw, topic ingestgw-main: blocks that are not settled: 0\n")
	wantNot(t, got, "warn", "FAIL")

	s := mustOpen(t, cfg, nil)
	group := consumeLanes(t, s, cfg.Group, buffer.Main, buffer.Bulk)
	group.ownsOf(buffer.Main, 12)
	group.ownsOf(buffer.Bulk, 12)
	put(t, s, 3)
	got = said(t, cfg, UnderWay)
	wantSaid(t, got, "ok group ingestgw, topic ingestgw-main: members: 1; partitions that they forward: 12 at 127.",
		"ok group ingestgw, topic ingestgw-bulk: members: 1; partitions that they forward: 12 at 127.",
		"ok group ingestgw, topic ingestgw-main: blocks that are not settled: 3; the oldest is ")
	wantNot(t, got, "warn", "FAIL")

	if err := k.Brokers[2].Stop(soon(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the broker that is away is told", func() bool {
		got = said(t, cfg, UnderWay)
		return strings.Contains(got, "FAIL broker "+k.Addrs()[2]+" (INGESTGW_KAFKA_BROKERS): ") &&
			strings.Contains(got, "warn topic ingestgw-main: partitions 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 have replicas that are not in sync")
	})
}
