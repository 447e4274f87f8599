package remotewrite_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
)

func TestAppendSampleWritesWhatOthersRead(t *testing.T) {
	long := strings.Repeat("v", 300)
	var msg []byte
	samples := []prompb.Sample{{Value: 1.5, Timestamp: 1}, {Value: math.Inf(-1), Timestamp: -1}, {Value: 0, Timestamp: now}, {Value: -0.5}}
	for _, s := range samples {
		msg = remotewrite.AppendSample(msg, tags("__name__", "größe", "a", long), s.Value, time.UnixMilli(s.Timestamp))
	}
	if _, err := new(remotewrite.Scanner).Scan(msg, remotewrite.Limits{}); err != nil {
		t.Fatal(err)
	}
	var u prompb.WriteRequestUnmarshaler
	wr, err := u.UnmarshalProtobuf(msg)
	if err != nil || len(wr.Timeseries) != len(samples) {
		t.Fatalf("%+v, %v", wr, err)
	}
	for i, ts := range wr.Timeseries {
		if len(ts.Samples) != 1 || ts.Samples[0] != samples[i] || len(ts.Labels) != 2 || ts.Labels[0].Value != "größe" || ts.Labels[1].Value != long {
			t.Errorf("series %d: %+v, want %+v", i, ts, samples[i])
		}
	}
}
