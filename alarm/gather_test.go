package alarm

import (
	"math"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/gathered"
	"github.com/ingestgw/ingestgw/internal/gathered/gatheredtest"
)

type board = gatheredtest.Board

func TestReadingsAreMadeOfMetrics(t *testing.T) {
	then := board{
		`ingestgw_ingest_requests_total{answer="accepted"}`:                            1000,
		`ingestgw_ingest_requests_total{answer="buffer_full"}`:                         0,
		`ingestgw_ingest_samples_total`:                                                1e6,
		`ingestgw_forward_samples_total{node="a"}`:                                     5e5,
		`ingestgw_forward_requests_total{code="2xx",node="a"}`:                         100,
		`ingestgw_forward_requests_total{code="timeout",node="b"}`:                     0,
		`ingestgw_tenant_bulk_samples_total{tenant="1:0"}`:                             0,
		`ingestgw_tenant_old_samples_total{tenant="1:0"}`:                              0,
		`ingestgw_tenant_samples_total{tenant="1:0"}`:                                  0,
		`ingestgw_tenant_samples_total{tenant="other"}`:                                0,
		`ingestgw_tenant_refused_samples_total{reason="samples",tenant="1:0"}`:         0,
		`ingestgw_tenant_refused_samples_total{reason="reserved_labels",tenant="1:0"}`: 0,
		`ingestgw_forward_malformed_blocks_total`:                                      1,
		`ingestgw_tenant_requests_identified_total{result="ok"}`:                       0,
		`ingestgw_tenant_requests_identified_total{result="unauthorized"}`:             0,
		`ingestgw_tenant_jwt_key_set_reads_total{result="failed"}`:                     2,
		`ingestgw_tenant_jwt_key_set_reads_total{result="good"}`:                       2,
		`ingestgw_kafka_tries_total{result="acknowledged"}`:                            9,
		`ingestgw_kafka_tries_total{result="failed"}`:                                  0,
	}
	now := board{
		`ingestgw_ingest_requests_total{answer="accepted"}`:                            1090,
		`ingestgw_ingest_requests_total{answer="buffer_full"}`:                         10,
		`ingestgw_ingest_samples_total`:                                                1e6 + 1000,
		`ingestgw_forward_samples_total{node="a"}`:                                     5e5 + 700,
		`ingestgw_forward_requests_total{code="2xx",node="a"}`:                         110,
		`ingestgw_forward_requests_total{code="timeout",node="b"}`:                     5,
		`ingestgw_forward_node_state{node="a",state="ready"}`:                          1,
		`ingestgw_forward_node_state{node="b",state="paused"}`:                         1,
		`ingestgw_forward_oldest_unsent_age_seconds{lane="main",partition="0"}`:        3,
		`ingestgw_forward_oldest_unsent_age_seconds{lane="main",partition="1"}`:        80,
		`ingestgw_forward_oldest_unsent_age_seconds{lane="bulk",partition="0"}`:        900,
		`ingestgw_forward_arriving_blocks_per_second{lane="main",partition="0"}`:       4,
		`ingestgw_forward_arriving_blocks_per_second{lane="main",partition="1"}`:       5,
		`ingestgw_forward_sent_blocks_per_second{lane="main",partition="0"}`:           2,
		`ingestgw_forward_settle_mode{mode="time"}`:                                    1,
		`ingestgw_tenant_bulk_samples_total{tenant="1:0"}`:                             500,
		`ingestgw_tenant_old_samples_total{tenant="1:0"}`:                              200,
		`ingestgw_tenant_samples_total{tenant="1:0"}`:                                  800,
		`ingestgw_tenant_samples_total{tenant="other"}`:                                900,
		`ingestgw_tenant_refused_samples_total{reason="samples",tenant="1:0"}`:         40,
		`ingestgw_tenant_refused_samples_total{reason="reserved_labels",tenant="1:0"}`: 99,
		`ingestgw_forward_malformed_blocks_total`:                                      2,
		`ingestgw_forward_lost_blocks_total{reason="damaged"}`:                         3,
		`ingestgw_tenant_requests_identified_total{result="ok"}`:                       50,
		`ingestgw_tenant_requests_identified_total{result="unauthorized"}`:             30,
		`ingestgw_tenant_file_last_reload_successful`:                                  0,
		`ingestgw_tenant_jwt_key_set_reads_total{result="failed"}`:                     3,
		`ingestgw_tenant_jwt_key_set_reads_total{result="good"}`:                       2,
		`ingestgw_ingest_certificate_expiry_timestamp_seconds`:                         float64(midnight.Unix()) + 3600,
		`ingestgw_kafka_tries_total{result="acknowledged"}`:                            9,
		`ingestgw_kafka_tries_total{result="failed"}`:                                  20,
		`ingestgw_kafka_retention_seconds{topic="x-main"}`:                             7200,
		`ingestgw_kafka_retention_seconds{topic="x-bulk"}`:                             3600,
		`ingestgw_kafka_partitions{topic="x-main"}`:                                    24,
		`ingestgw_kafka_partitions{topic="x-tenants"}`:                                 1,
		`ingestgw_kafka_topic_unsafe{setting="min.insync.replicas",topic="m"}`:         1,
		`ingestgw_kafka_topic_unsafe{setting="unknown",topic="b"}`:                     1,
	}
	vitals := []downstream.Vitals{server(insertA, downstream.VMInsert)}
	o := newObserver(Sources{Vitals: func() []downstream.Vitals { return vitals }}, 1)
	o.readings(then.Moment(midnight))
	r := o.readings(now.Moment(midnight.Add(10 * time.Second)))

	for what, c := range map[string]struct{ got, want downstream.Figure }{
		"window":             {downstream.Figure(r.Window.Seconds()), 10},
		"requests":           {r.Senders.All, 10},
		"full":               {r.Senders.Full, 1},
		"refused":            {r.Senders.refused(), 1},
		"offered":            {r.Load.Offered, 100},
		"sent":               {r.Load.Sent, 70},
		"age of main":        {r.Main.Age, 80},
		"age of bulk":        {r.Bulk.Age, 900},
		"arriving":           {r.Main.Arriving, 9},
		"lost":               {r.Lost, 4},
		"known":              {r.Access.Known, 5},
		"refused credential": {r.Access.Refused, 3},
		"failed tries":       {r.Kafka.Failed, 2},
		"no acknowledgement": {r.Kafka.Acknowledged, 0},
		"retention of main":  {r.Kafka.MainRetention, 7200},
		"retention of bulk":  {r.Kafka.BulkRetention, 3600},
		"partitions of main": {r.Kafka.Partitions, 24},
		"on its way":         {r.Nodes[0].Taken, 1},
		"timed out":          {r.Nodes[1].TimedOut, 0.5},
		"above its limits":   {r.Tenants[0].over(), 34},
	} {
		if math.Abs(float64(c.got-c.want)) > 1e-9 || !c.got.Known() {
			t.Errorf("%s: got %v, want %v", what, c.got, c.want)
		}
	}
	switch {
	case !r.ByClock, !r.Nodes[1].Paused, r.Nodes[0].Paused, !r.Nodes[1].failing(), r.Nodes[0].failing():
		t.Errorf("settling or nodes: %v %+v", r.ByClock, r.Nodes)
	case !r.Access.ReloadRefused, !r.Access.KeysFailing, r.Access.DirectoryDown:
		t.Errorf("access: %+v", r.Access)
	case len(r.Tenants) != 1, r.Disk != nil, len(r.Kafka.Unsafe) != 1, r.Kafka.Unsafe[0] != "m/min.insync.replicas":
		t.Errorf("tenants %+v, disk %+v, unsafe %v", r.Tenants, r.Disk, r.Kafka.Unsafe)
	case !r.CertificateEnds.Equal(midnight.Add(time.Hour)), r.Memory != nil, r.Canary != nil, len(r.inserts()) != 3:
		t.Errorf("certificate %v, memory %v, canary %v, vminserts %v", r.CertificateEnds, r.Memory, r.Canary, r.inserts())
	}
}

// A disk that fills tells how fast once it has been watched for long enough.
func TestADiskThatFillsIsMeasuredOverAMinute(t *testing.T) {
	o := newObserver(Sources{}, 1)
	for i := range 13 {
		r := o.readings(board{gathered.DiskFree: 1e9 - 1e6*float64(5*i), gathered.DiskBytes + `{lane="main"}`: 1e5 * float64(5*i)}.Moment(midnight.Add(time.Duration(i) * step)))
		if known := i >= 9; r.Disk.Growth.Known() != known || known && (math.Abs(float64(r.Disk.Growth-1e6)) > 1 || math.Abs(float64(r.Disk.Fills-1e5)) > 1) {
			t.Errorf("after %d s: %v and %v bytes a second", 5*i, r.Disk.Growth, r.Disk.Fills)
		}
	}
}

func TestWhatIsUsualIsLearntFromCalmMinutes(t *testing.T) {
	var l loads
	count, now := 0.0, midnight
	minutes := func(n int, rate float64, calm bool) (last Load) {
		for range 12 * n {
			count, now = count+5*rate, now.Add(step)
			last = l.add(now, count, 1, calm)
		}
		return last
	}
	if got := minutes(9, 100, true); got.Usual.Known() || got.Before.Known() {
		t.Errorf("after nine minutes: %+v", got)
	}
	if got := minutes(60, 100, true); math.Abs(float64(got.Usual-100)) > 1e-6 || math.Abs(float64(got.Before-100)) > 1e-6 || got.Yesterday.Known() {
		t.Errorf("after an hour: %+v", got)
	}
	if got := minutes(120, 900, false); math.Abs(float64(got.Usual-100)) > 1e-6 || math.Abs(float64(got.Recent-900)) > 1e-6 {
		t.Errorf("after two hours with a backlog, in which nothing is usual: %+v", got)
	}
	minutes(24*60+10, 300, true)
	if got := minutes(1, 10, true); math.Abs(float64(got.Yesterday-300)) > 1e-6 || math.Abs(float64(got.Before-300)) > 1e-6 || len(l.rates) != historyLength {
		t.Errorf("a day later: %+v, %d minutes kept", got, len(l.rates))
	}
}

// When processes are added, each gets less, and no sender is gone.
func TestLoadIsThatOfAllProcesses(t *testing.T) {
	var l loads
	count, now := 0.0, midnight
	var got Load
	for i := range 12 * 120 {
		processes := 2.0
		if i >= 12*110 {
			processes = 6
		}
		count, now = count+5*600/processes, now.Add(step)
		got = l.add(now, count, processes, true)
	}
	if math.Abs(float64(got.Before-100)) > 1 || math.Abs(float64(got.Recent-100)) > 1 || math.Abs(float64(got.Usual-100)) > 1 {
		t.Errorf("%+v, want 100 of each", got)
	}
}

func TestACounterThatIsNotThereIsNoLoad(t *testing.T) {
	var l loads
	for i := range 100 {
		if got := l.add(midnight.Add(time.Duration(i)*step), math.NaN(), 1, true); got.Recent.Known() || got.Usual.Known() {
			t.Fatalf("%+v", got)
		}
	}
}
