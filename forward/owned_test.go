package forward

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/ingestgw/ingestgw/buffer"
)

func TestItOwnsAPartitionUntilThatIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		f := s.start()
		synctest.Wait()
		if !f.Owns(buffer.Main, 0) || f.Owns(buffer.Main, 1) || f.Owns(buffer.Bulk, 0) {
			t.Errorf("main/0 %v, main/1 %v, bulk/0 %v", f.Owns(buffer.Main, 0), f.Owns(buffer.Main, 1), f.Owns(buffer.Bulk, 0))
		}
		s.store.takeAway()
		synctest.Wait()
		if f.Owns(buffer.Main, 0) {
			t.Error("it still owns a partition that it has lost")
		}
		s.stop()
	})
}

func TestAPartitionThatComesBackBeforeItsLastRunHasEndedIsOwned(t *testing.T) {
	var f Forwarder
	id := buffer.PartitionID{Lane: buffer.Main, Number: 3}
	first := f.owned.begin(id)
	second := f.owned.begin(id)
	first()
	if !f.Owns(buffer.Main, 3) {
		t.Error("lost with the end of its first run")
	}
	second()
	if f.Owns(buffer.Main, 3) || len(f.owned.runs) > 0 {
		t.Errorf("it is still there: %v", f.owned.runs)
	}
}

func TestNodesAreThoseOfNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a", "b")
		f := s.start()
		synctest.Wait()
		nodes := f.Nodes()
		if len(nodes) != 2 || nodes[0].Endpoint.String() != "a:8480" || nodes[1].Endpoint.String() != "b:8480" {
			t.Fatalf("nodes %v", nodes)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, nodes[1].Endpoint.URL("/x").String(), strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := nodes[1].Do(req)
		if err != nil || resp.StatusCode != http.StatusNoContent {
			t.Fatalf("answered %v, %v", resp, err)
		}
		if got := s.node("b").arrivals(); len(got) != 1 || got[0].path != "/x" {
			t.Errorf("b got %v", got)
		}
		s.stop()
	})
}
