package kafka

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
)

func TestCheckSaysWhatIsThere(t *testing.T) {
	t.Parallel()
	brokers := fakeKafka(t).ListenAddrs()
	check := func(change func(*Config)) string {
		cfg := testConfig(append([]string{"127.0.0.1:1"}, brokers[0]))
		cfg.CreateTopics = false
		change(&cfg)
		var all strings.Builder
		for _, f := range Check(t.Context(), cfg, slog.New(slog.DiscardHandler)) {
			switch {
			case f.Err == nil:
				all.WriteString("ok " + f.What + ": " + f.Text + "\n")
			case f.Unsafe:
				all.WriteString("unsafe " + f.What + ": " + f.Err.Error() + "\n")
			default:
				all.WriteString("fail " + f.What + ": " + f.Err.Error() + "\n")
			}
		}
		return all.String()
	}
	expect := func(got string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("no %q in:\n%s", w, got)
			}
		}
	}
	expect(check(func(*Config) {}),
		"fail broker 127.0.0.1:1 (INGESTGW_KAFKA_BROKERS): ", "ok broker "+brokers[0]+" (INGESTGW_KAFKA_BROKERS): answers\n",
		"ok broker "+brokers[2]+" (named by the cluster): answers\n", "it does not exist: create it, or set INGESTGW_KAFKA_CREATE_TOPICS=true")
	expect(check(func(c *Config) { c.CreateTopics = true }), "does not exist; it is created with 3 partitions on 3 brokers")

	cfg := testConfig(brokers)
	s := mustOpen(t, cfg, nil)
	if err := s.Append(t.Context(), buffer.Main, buffer.NewBlock(time.UnixMilli(1_700_000_000_000), 1, 1, []byte("block"), nil)); err != nil {
		t.Fatal(err)
	}
	same := func(c *Config) { c.TopicPrefix = cfg.TopicPrefix }
	expect(check(same), "ok topic "+cfg.TopicPrefix+"-main: 3 partitions on 3 brokers", "its settings are safe")
	weak := testConfig(brokers)
	weak.Replication = 1
	mustOpen(t, weak, nil)
	expect(check(func(c *Config) { c.TopicPrefix = weak.TopicPrefix }), "unsafe topic "+weak.TopicPrefix+"-main: replication: 1, want 3")
	expect(check(func(c *Config) { c.TopicPrefix, c.Strict = weak.TopicPrefix, true }), "fail topic "+weak.TopicPrefix+"-main: replication: 1, want 3")
}
