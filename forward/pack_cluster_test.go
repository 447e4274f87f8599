package forward

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/stack"
	"github.com/ingestgw/ingestgw/tenant"
)

// What tells a node that refuses packed requests from a bad record is how a real vminsert answers.
func TestVminsertTakesEmptyPacksAndRefusesBadOnes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	cluster := stack.StartCluster(t, stack.ClusterSpec{})
	n := dialed(t, cluster.InsertURLs()[0], downstream.ClientConfig{})
	v := newVisit(context.Background(), n, time.Minute)
	defer v.close()
	if fail := v.probe(); fail != nil || !v.proven {
		t.Fatalf("an empty request is answered %v", fail)
	}
	message := newEncoder().EncodeAll([]byte("\x0a\x05\x0a\xff\xff\xff\xff"), nil)
	if fail := v.postPacked(message, 1); fail == nil || fail.kind != refused || fail.status != http.StatusBadRequest {
		t.Errorf("a malformed message is answered %v", fail)
	}
	wrong := *n.packURL
	wrong.Path = "/insert/multitenant/prometheus/api/v1/wrong"
	n.packURL = &wrong
	if fail := v.probe(); fail == nil || fail.kind != refused || v.proven {
		t.Errorf("an empty request to a wrong URL is answered %v", fail)
	}
	r := sender{tenant.ID{Account: 1}, map[string]string{"org": "o"}}.record(1, 3, "x")
	if fail := v.post(&r); fail != nil {
		t.Errorf("a record with tags in the URL is answered %v", fail)
	}
}
