package forward

import (
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/internal/remotewrite"
	"github.com/ingestgw/ingestgw/memory"
	"github.com/ingestgw/ingestgw/tenant"
)

// Whatever the bytes of a record are, it is packed whole or left out whole, and its neighbours are as they would be without it.
func FuzzPackSurvivesAnyRecord(f *testing.F) {
	good := sender{tenant.ID{Account: 3}, map[string]string{"org": "o"}}.record(2, 5, "x", "y")
	f.Add(good.Payload, []byte(good.Tags))
	f.Add([]byte(nil), []byte(nil))
	f.Add([]byte("no snappy"), []byte("no tags"))
	f.Add(snappy.Encode(nil, []byte("\x0a\xff\xff\xff\xff\x0f")), []byte{1, 'a', 1})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}, []byte{})
	f.Add(snappy.Encode(nil, []byte("\x1a\x04\x58\x05\x60\x06")), []byte{})
	fw := newForwarder(Config{Pack: true, MaxLabels: 30}, newFakeStore(), memory.NewBudget(1<<20), &fakeResolver{}, &fakeSettling{}, nil,
		slog.New(slog.DiscardHandler), prometheus.NewPedanticRegistry())
	part := newPartition(fw, fakePartition{newFakeStore()})
	f.Fuzz(func(t *testing.T, payload, tags []byte) {
		records := []buffer.Record{
			good, {Tenant: tenant.ID{Account: 1}, Tags: tags, Samples: 1, Payload: payload, Decoded: len(payload)}, good,
		}
		c := fw.parcel(part, nil)
		for i := range records {
			c.add(item{&records[i], &shipment{}})
		}
		c.pending, c.packable = c.items, len(c.items)
		p, err := fw.packers.pack(t.Context(), c, len(c.pending))
		if err != nil {
			t.Fatal(err)
		}
		dec, err := zstd.NewReader(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer dec.Close()
		message, err := dec.DecodeAll(p.body, nil)
		if err != nil || len(message) != p.unpacked {
			t.Fatalf("the body does not decompress: %v", err)
		}
		two, _, err := remotewrite.AppendPacked(nil, mustDecode(t, good.Payload), 3, 0, []remotewrite.Label{{Name: []byte("org"), Value: []byte("o")}})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(message), string(two)) || !strings.HasSuffix(string(message), string(two)) {
			t.Error("its neighbours are not what they would be alone")
		}
		if p.records == 2 && (len(message) != 2*len(two) || c.packable != 2 || string(c.pending[2].Payload) != string(payload)) {
			t.Error("it was left out, and not wholly")
		}
	})
}

func mustDecode(t *testing.T, payload []byte) []byte {
	t.Helper()
	message, err := snappy.Decode(nil, payload)
	if err != nil {
		t.Fatal(err)
	}
	return message
}

// What is in tags never becomes another part of the URL.
func FuzzTagsStayInTheirPlace(f *testing.F) {
	f.Add("org", "acme", "authKey=k")
	f.Add("a&b#c?d/é", "x&extra_label=vm_account_id=6%=", "")
	f.Fuzz(func(t *testing.T, name, value, query string) {
		tags, err := tenant.NewTags(map[string]string{name: value, "region": "eu"})
		if err != nil {
			t.Skip()
		}
		before, err := url.ParseQuery(query)
		if err != nil || strings.ContainsAny(query, "#\x00 \x7f") || before["extra_label"] != nil {
			t.Skip()
		}
		base := &url.URL{Scheme: "http", Host: "h", RawQuery: query}
		n := newNode(endpoint("http://h"), nil, nil)
		n.base = base
		u, err := url.ParseRequestURI(n.url(tenant.ID{Account: 1, Project: 2}, tags).RequestURI())
		if err != nil {
			t.Skip() // the query was none
		}
		var want []string
		for name, value := range tags.All() {
			want = append(want, string(name)+"="+string(value))
		}
		if got := u.Query()["extra_label"]; !slices.Equal(got, want) || u.Path != "/insert/1:2/prometheus/api/v1/write" {
			t.Errorf("extra labels are %q at %s, want %q", got, u.Path, want)
		}
		for key := range u.Query() {
			if key != "extra_label" && before[key] == nil {
				t.Errorf("the query has a new key %q", key)
			}
		}
	})
}
