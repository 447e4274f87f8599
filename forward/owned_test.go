package forward

import (
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
