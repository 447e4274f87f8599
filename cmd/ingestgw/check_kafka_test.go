package main

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// startFakeKafka is for checks and, with another group and topic each, for gateways.
func startFakeKafka(t *testing.T) (brokers []string) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	t.Setenv("INGESTGW_BUFFER", "kafka")
	t.Setenv("INGESTGW_KAFKA_BROKERS", c.ListenAddrs()[0])
	t.Setenv("INGESTGW_KAFKA_CREATE_TOPICS", "true")
	return c.ListenAddrs()
}

// wantNoLine fails if some line is about one of the things.
func wantNoLine(t *testing.T, out string, things ...string) {
	t.Helper()
	for line := range strings.Lines(out) {
		for _, thing := range things {
			if len(line) > 6 && strings.HasPrefix(line[6:], thing) {
				t.Errorf("said of what has nothing to do with it: %s", line)
			}
		}
	}
}

func TestCheckLooksAtTheBufferThatIsSet(t *testing.T) {
	startFakeCluster(t)
	t.Setenv("INGESTGW_VMSELECT_URLS", "")
	out, code := runCheck(t)
	if code != exitOK {
		t.Errorf("exit %d:\n%s", code, out)
	}
	wantNoLine(t, out, "broker", "topic", "group")

	brokers := startFakeKafka(t)
	t.Setenv("INGESTGW_BUFFER_DIR", "/proc/nonexistent")
	out, code = runCheck(t)
	if code != exitOK {
		t.Errorf("exit %d:\n%s", code, out)
	}
	wantNoLine(t, out, "buffer")
	for _, b := range brokers {
		wantLine(t, out, "ok", "broker "+b, "answers")
	}
	wantLine(t, out, "ok", "topic ingestgw-main", "will be created with 12 partitions on 3 brokers each")

	t.Setenv("INGESTGW_KAFKA_REPLICATION", "1")
	out, code = runCheck(t)
	if code != exitOK {
		t.Errorf("exit %d:\n%s", code, out)
	}
	wantLine(t, out, "warn", "topic ingestgw-main", "INGESTGW_KAFKA_REPLICATION")
	t.Setenv("INGESTGW_KAFKA_STRICT", "true")
	out, code = runCheck(t)
	if code != exitFailed {
		t.Errorf("exit %d:\n%s", code, out)
	}
	wantLine(t, out, "FAIL", "topic ingestgw-main", "INGESTGW_KAFKA_REPLICATION")

	t.Setenv("INGESTGW_KAFKA_BROKERS", "127.0.0.1:1")
	out, code = runCheck(t)
	if code != exitFailed {
		t.Errorf("exit %d:\n%s", code, out)
	}
	wantLine(t, out, "FAIL", "broker 127.0.0.1:1", "INGESTGW_KAFKA_BROKERS")
	wantLine(t, out, "ok", "vminsert", "fake-1") // all is told at once
}

func TestCheckOfAReceiverLooksAtNoVminsert(t *testing.T) {
	f := startFakeCluster(t)
	startFakeKafka(t)
	t.Setenv("INGESTGW_ROLE", "receive")
	t.Setenv("INGESTGW_FORWARD_URLS", "")
	t.Setenv("INGESTGW_FORWARD_BEARER_TOKEN_FILE", "/nowhere/token")
	out, code := runCheck(t)
	if code != exitOK {
		t.Errorf("exit %d:\n%s", code, out)
	}
	wantNoLine(t, out, "vminsert", "vmstorage", "write to", "group", "credentials", "sample straight")
	wantLine(t, out, "ok", "INGESTGW_INGEST_LISTEN", "free")
	wantLine(t, out, "ok", "sample", "none is written", "INGESTGW_ROLE=receive")
	if f.written != nil {
		t.Error("a sample was written")
	}
}

func TestCheckOfAForwarderLooksAtNoListenerForSenders(t *testing.T) {
	f := startFakeCluster(t)
	brokers := startFakeKafka(t)
	t.Setenv("INGESTGW_ROLE", "forward")
	t.Setenv("INGESTGW_INGEST_LISTEN", strings.TrimPrefix(f.insert.URL, "http://")) // taken, and nobody cares
	out, code := runCheck(t)
	if code != exitOK {
		t.Errorf("exit %d:\n%s", code, out)
	}
	wantNoLine(t, out, "INGESTGW_INGEST_LISTEN")
	wantLine(t, out, "ok", "INGESTGW_ADMIN_LISTEN", "free")
	wantLine(t, out, "ok", "sample straight to", "no ingestgw runs here", "seen at vmselect")

	// One that runs takes no samples either.
	c := launchChild(t, "BUFFER=kafka", "ROLE=forward", "KAFKA_BROKERS="+brokers[0], "KAFKA_CREATE_TOPICS=true", "KAFKA_PARTITIONS=2",
		"FORWARD_URLS="+f.insert.URL)
	eventually(t, 20*time.Second, func() error {
		if c.admin = c.address("listening for operators"); c.admin == "" || statusOf(c.admin+"/-/ready") != http.StatusOK {
			return errors.New("not ready")
		}
		if !strings.Contains(textOf(c.admin+"/metrics"), "ingestgw_kafka_assigned_partitions 4") {
			return errors.New("not all partitions are its own")
		}
		return nil
	})
	t.Setenv("INGESTGW_ADMIN_LISTEN", strings.TrimPrefix(c.admin, "http://"))
	out, code = runCheck(t)
	if code != exitOK {
		t.Errorf("exit %d:\n%s", code, out)
	}
	wantLine(t, out, "ok", "listeners", "an ingestgw runs")
	wantLine(t, out, "ok", "group ingestgw", "members: 1", "2 at 127.0.0.1")
	wantLine(t, out, "ok", "sample straight to", "INGESTGW_ROLE=forward takes none", "seen at vmselect")
}

func TestCheckWritesThroughKafka(t *testing.T) {
	f := startFakeCluster(t)
	brokers := startFakeKafka(t)
	c := startChild(t, "BUFFER=kafka", "KAFKA_BROKERS="+brokers[0], "KAFKA_CREATE_TOPICS=true", "KAFKA_PARTITIONS=2", "FORWARD_URLS="+f.insert.URL)
	eventually(t, 20*time.Second, func() error {
		if !strings.Contains(textOf(c.admin+"/metrics"), "ingestgw_kafka_assigned_partitions 4") {
			return errors.New("not all partitions are its own")
		}
		return nil
	})
	t.Setenv("INGESTGW_INGEST_LISTEN", strings.TrimPrefix(c.ingest, "http://"))
	t.Setenv("INGESTGW_ADMIN_LISTEN", strings.TrimPrefix(c.admin, "http://"))
	for _, role := range []string{"all", "receive"} {
		t.Run(role, func(t *testing.T) {
			t.Setenv("INGESTGW_ROLE", role)
			out, code := runCheck(t)
			if code != exitOK {
				t.Errorf("exit %d:\n%s", code, out)
			}
			wantLine(t, out, "ok", "topic ingestgw-main", "2 partitions on 3 of 3 brokers each")
			wantLine(t, out, "ok", "sample through the ingestgw at "+os.Getenv("INGESTGW_INGEST_LISTEN"), "seen at vmselect")
			wantNoLine(t, out, "buffer", "sample straight")
		})
	}

	// A group that the running one is not in.
	t.Setenv("INGESTGW_KAFKA_GROUP", "others")
	out, _ := runCheck(t)
	wantLine(t, out, "warn", "group others", "has no members, though an ingestgw runs", "INGESTGW_KAFKA_GROUP")
}
