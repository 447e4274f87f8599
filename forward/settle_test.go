package forward

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/downstream"
)

const second = time.Second

// onStage runs a test on a stage that has been watched for five seconds.
func onStage(t *testing.T, nodes, storages int, change func(*SettleConfig), test func(*stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, nodes, storages, change)
		time.Sleep(5 * second)
		test(st)
	})
}

func TestBlockSettlesWhenItIsPassedOnAndOnDisk(t *testing.T) {
	onStage(t, 1, 2, nil, func(st *stage) {
		st.flow("n0", "s0", "s1")
		off := st.post("n0", "s0", "s1")
		time.Sleep(10 * second)
		st.wantUnsettled(off)
		if n := st.metric("ingestgw_forward_unsettled_blocks", ""); n != 1 {
			t.Errorf("%v blocks shown as unsettled", n)
		}
		if age := st.metric("ingestgw_forward_unsettled_seconds", ""); age < 9 || age > 10 {
			t.Errorf("the oldest is shown to be %v s old", age)
		}
		time.Sleep(40 * second)
		st.wantSettled(off, 38*second, 45*second)
		if n := st.metric("ingestgw_forward_settled_blocks_total", ""); n != 1 {
			t.Errorf("%v blocks counted as settled", n)
		}
		if n := st.metric("ingestgw_forward_unsettled_blocks", ""); n != 0 {
			t.Errorf("%v blocks shown as unsettled", n)
		}
		if st.metric("ingestgw_forward_settle_mode", "watch") != 1 || st.metric("ingestgw_forward_settle_mode", "time") != 0 {
			t.Error("not shown as watching")
		}
	})
}

func TestNothingIsPostedBeforeTheFirstGoodPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, 2, 1, nil)
		if st.mayPost("n0") {
			t.Error("before any poll")
		}
		st.down("n1")
		time.Sleep(4 * second)
		if !st.mayPost("n0") || st.mayPost("n1") {
			t.Errorf("n0 %v, n1 %v; want true, false", st.mayPost("n0"), st.mayPost("n1"))
		}
		st.restart("n1")
		time.Sleep(6 * second)
		if !st.mayPost("n1") {
			t.Error("n1 has come up")
		}
	})
}

func TestNothingIsPostedBeforeTheStoragesWereAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, 1, 2, nil)
		st.freeze("s1")
		time.Sleep(2 * second)
		if st.mayPost("n0") {
			t.Error("s1 has not been asked yet")
		}
		time.Sleep(2 * second)
		if !st.mayPost("n0") {
			t.Error("s1 was asked, and does not answer")
		}
	})
}

// An idle vminsert shows nothing when its storage restarts.
func TestRestartedStorageBehindIdleVMInsertMakesDirty(t *testing.T) {
	onStage(t, 1, 1, nil, func(st *stage) {
		off := st.post("n0", "s0")
		st.deliver("n0", "s0")
		time.Sleep(10 * second)
		st.restart("s0")
		time.Sleep(60 * second)
		st.wantDirty(off, 44*second, 50*second)
		if n := st.metric("ingestgw_forward_dirtied_blocks_total", storageRestarted); n != 1 {
			t.Errorf("%v blocks counted as dirty for a storage that restarted", n)
		}
		if n := st.metric("ingestgw_forward_resent_blocks_total", ""); n != 1 {
			t.Errorf("%v blocks counted as sent again", n)
		}
	})
}

func TestRestartedVMInsertMakesDirtyWhatItHeld(t *testing.T) {
	onStage(t, 2, 1, nil, func(st *stage) {
		st.flow("n0", "s0")
		passed := st.post("n0", "s0")
		time.Sleep(10 * second)
		held := st.post("n0", "s0")
		other := st.post("n1", "s0")
		time.Sleep(second)
		st.restart("n0")
		st.flow("n1", "s0")
		time.Sleep(50 * second)
		st.wantSettled(passed, 35*second, 45*second)
		st.wantDirty(held, 45*second, 50*second)
		st.wantSettled(other, 45*second, 60*second)
		if n := st.metric("ingestgw_forward_dirtied_blocks_total", nodeRestarted); n != 1 {
			t.Errorf("%v blocks counted as dirty for a vminsert that restarted", n)
		}
	})
}

func TestRestartBetweenThePollAndThePostIsSeen(t *testing.T) {
	onStage(t, 1, 1, nil, func(st *stage) {
		before := st.begin("n0")
		st.restart("n0")
		st.flow("n0", "s0")
		time.Sleep(3 * second)
		st.s.sent(st.part, 0, []ticket{before})
		time.Sleep(60 * second)
		st.wantDirty(0, 30*second, 50*second)
	})
}

// Whatever the clock says: rows of a storage that is away sit in vminsert's memory.
func TestQueueThatSendsNothingHoldsItsBlocks(t *testing.T) {
	onStage(t, 1, 2, nil, func(st *stage) {
		st.flow("n0", "s1")
		st.path("n0", "s0", func(p *downstream.Passage) { p.PendingRows = 1 })
		off := st.post("n0", "s0", "s1")
		time.Sleep(time.Hour)
		st.wantUnsettled(off)
		st.deliver("n0", "s0")
		time.Sleep(2 * second)
		st.deliver("n0", "s0")
		time.Sleep(2 * second)
		st.deliver("n0", "s0")
		time.Sleep(40 * second)
		st.wantSettled(off, time.Hour+30*second, time.Hour+60*second)
	})
}

func TestOneBatchSentProvesNothing(t *testing.T) {
	onStage(t, 1, 1, nil, func(st *stage) {
		off := st.post("n0", "s0")
		time.Sleep(5 * second)
		st.deliver("n0", "s0") // what was on its way before the block came
		time.Sleep(90 * second)
		st.wantUnsettled(off)
	})
}

func TestLastBlockBeforeSilenceSettlesInTheEnd(t *testing.T) {
	onStage(t, 1, 1, nil, func(st *stage) {
		off := st.post("n0", "s0")
		st.deliver("n0", "s0")
		time.Sleep(10 * time.Minute)
		st.wantSettled(off, quietFor+30*second, quietFor+50*second)
	})
}

// vminsert tries a batch that no storage takes over and over. Nothing waits and nothing is sent meanwhile, for hours.
func TestNothingIsQuietWhileNoStorageTakesRows(t *testing.T) {
	for name, sick := range map[string]func(*downstream.Passage){
		"unreachable": func(p *downstream.Passage) { p.Unreachable = true; p.DialErrors++ },
		"read-only":   func(p *downstream.Passage) { p.ReadOnly = true },
		"not dialled": func(p *downstream.Passage) { p.DialErrors++ },
		"not greeted": func(p *downstream.Passage) { p.HandshakeErrors++ },
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, 1, 2, nil, func(st *stage) {
				off := st.post("n0", "s0", "s1")
				for range 20 * 60 {
					st.path("n0", "s0", sick)
					st.path("n0", "s1", sick)
					time.Sleep(second)
				}
				st.wantUnsettled(off)
				for _, storage := range stageNames("s", 2) {
					st.path("n0", storage, func(p *downstream.Passage) { p.Unreachable, p.ReadOnly = false, false })
					st.deliver("n0", storage)
				}
				time.Sleep(10 * time.Minute)
				st.wantSettled(off, 20*time.Minute+quietFor+30*second, 20*time.Minute+quietFor+50*second)
			})
		})
	}
}

func TestSilenceIsProofWhileOneStorageTakesRows(t *testing.T) {
	onStage(t, 1, 2, nil, func(st *stage) {
		st.down("s1")
		st.path("n0", "s1", func(p *downstream.Passage) { p.Unreachable = true })
		time.Sleep(2 * time.Minute) // s1 is given up
		off := st.post("n0", "s0", "s1")
		ctx := st.t.Context()
		go func() {
			for sleepFor(ctx, second) == nil {
				st.path("n0", "s1", func(p *downstream.Passage) { p.DialErrors++ })
			}
		}()
		time.Sleep(10 * time.Minute)
		st.wantSettled(off, 2*time.Minute+quietFor+30*second, 2*time.Minute+quietFor+60*second)
	})
}

// Between the batches of a queue that is stuck, others may use its connection: a copy of replicationFactor 2, or rows that are sent
// elsewhere than they were meant for.
func TestBatchesOfOtherQueuesProveNothing(t *testing.T) {
	onStage(t, 1, 2, nil, func(st *stage) {
		off := st.post("n0", "s0")
		ctx := st.t.Context()
		go func() {
			for sleepFor(ctx, 300*time.Millisecond) == nil {
				st.path("n0", "s0", func(p *downstream.Passage) { p.Sent += 100; p.PendingRows++ })
			}
		}()
		time.Sleep(30 * time.Minute)
		st.wantUnsettled(off)
	})
}

// With replicationFactor 2 twice as much is sent as is received; after an outage one storage has less and another has more.
func TestNumbersSentNeedNotMatchNumbersReceived(t *testing.T) {
	onStage(t, 1, 2, nil, func(st *stage) {
		st.path("n0", "s0", func(p *downstream.Passage) { p.Received, p.Sent = 5491, 2972 })
		st.path("n0", "s1", func(p *downstream.Passage) { p.Received, p.Sent = 490, 1000 })
		time.Sleep(2 * second)
		st.flow("n0", "s0", "s1")
		off := st.post("n0", "s0", "s1")
		time.Sleep(50 * second)
		st.wantSettled(off, 35*second, 50*second)
	})
}

func TestBrokenConnectionStartsPassingOnAnew(t *testing.T) {
	onStage(t, 1, 2, nil, func(st *stage) {
		off := st.post("n0", "s0")
		ctx := st.t.Context()
		go func() { // a batch arrives, then the connection breaks, all the time
			for sleepFor(ctx, 1500*time.Millisecond) == nil {
				st.path("n0", "s0", func(p *downstream.Passage) { p.Sent++ })
				if sleepFor(ctx, 1500*time.Millisecond) == nil {
					st.path("n0", "s1", func(p *downstream.Passage) { p.ConnectionErrors++ })
				}
			}
		}()
		time.Sleep(30 * time.Minute)
		st.wantUnsettled(off)
	})
}

func TestStorageAwayAllAlongBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, 1, 3, nil)
		st.down("s2")
		st.path("n0", "s2", func(p *downstream.Passage) { p.Unreachable = true })
		time.Sleep(5 * second)
		st.flow("n0", "s0", "s1")
		off := st.post("n0", "s0", "s1", "s2") // received for s2, and put into other queues
		st.path("n0", "s2", func(p *downstream.Passage) { p.DialErrors += 5 })
		time.Sleep(50 * second)
		st.wantSettled(off, 38*second, 50*second)
	})
}

// With a storage away, rows meant for it wait in another queue, which shows nothing of them but that they were put there.
func TestReroutedRowsAreFollowed(t *testing.T) {
	onStage(t, 1, 2, nil, func(st *stage) {
		st.down("s1")
		st.path("n0", "s1", func(p *downstream.Passage) { p.Unreachable = true })
		time.Sleep(2 * time.Minute) // s1 is given up
		before := st.begin("n0")
		st.path("n0", "s1", func(p *downstream.Passage) { p.Received++ })                    // vm_rpc_rows_pushed_total
		st.path("n0", "s0", func(p *downstream.Passage) { p.Received++; p.PendingRows = 1 }) // vm_rpc_rows_rerouted_to_here_total
		st.s.sent(st.part, 0, []ticket{before})
		time.Sleep(20 * time.Minute)
		st.wantUnsettled(0)
	})
}

func TestReadOnlyStorageBlocksNobody(t *testing.T) {
	onStage(t, 1, 2, nil, func(st *stage) {
		st.path("n0", "s1", func(p *downstream.Passage) { p.ReadOnly = true })
		time.Sleep(5 * second)
		st.flow("n0", "s0")
		off := st.post("n0", "s0", "s1")
		time.Sleep(50 * second)
		st.wantSettled(off, 40*second, 60*second)
	})
}

func TestStorageThatComesBackMakesDirtyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, 1, 2, nil)
		st.down("s1")
		st.path("n0", "s1", func(p *downstream.Passage) { p.Unreachable = true })
		time.Sleep(5 * second)
		st.flow("n0", "s0")
		off := st.post("n0", "s0")
		time.Sleep(10 * second)
		st.restart("s1") // it may have taken rows, died and come up again since it was last asked
		time.Sleep(time.Hour)
		st.wantDirty(off, 45*second, 60*second)
	})
}

func TestStorageThatStaysAwayHoldsUpForALittleWhileOnly(t *testing.T) {
	onStage(t, 1, 2, nil, func(st *stage) {
		st.flow("n0", "s0")
		first := st.post("n0", "s0", "s1")
		time.Sleep(2 * second)
		st.down("s1")
		st.path("n0", "s1", func(p *downstream.Passage) { p.Unreachable = true; p.ConnectionErrors++ })
		time.Sleep(2 * second)
		meanwhile := st.post("n0", "s0", "s1")
		time.Sleep(2 * time.Minute)
		st.wantDirty(first, 95*second, 110*second)
		st.wantDirty(meanwhile, 95*second, 110*second)
		after := st.post("n0", "s0", "s1")
		time.Sleep(time.Minute)
		st.wantSettled(after, 160*second, 190*second)
		if n := st.metric("ingestgw_forward_dirtied_blocks_total", storageLost); n != 2 {
			t.Errorf("%v blocks counted as dirty for a storage that was lost", n)
		}
	})
}

// A storage that does not answer us takes rows all the same. When it dies, nobody but vminsert notices.
func TestStorageThatIsNotSeenMakesDirtyWhenItDies(t *testing.T) {
	for _, mode := range []string{settleAuto, settleWatch} {
		t.Run(mode, func(t *testing.T) {
			onStage(t, 1, 2, func(c *SettleConfig) { c.SettleMode = mode }, func(st *stage) {
				st.flow("n0", "s0", "s1")
				st.with("s1", func(a *actor) { a.answers = fmt.Errorf("timeout") })
				time.Sleep(3 * time.Minute)
				off := st.post("n0", "s0", "s1")
				time.Sleep(10 * second)
				st.down("s1")
				st.path("n0", "s1", func(p *downstream.Passage) { p.Unreachable = true; p.ConnectionErrors++ })
				time.Sleep(90 * second)
				st.wantDirty(off, 225*second, 240*second)
				if n := st.metric("ingestgw_forward_dirtied_blocks_total", storageUnseen); n != 1 {
					t.Errorf("%v blocks counted as dirty for a storage that was not seen", n)
				}
				after := st.post("n0", "s0")
				time.Sleep(time.Minute)
				st.wantSettled(after, 310*second, 345*second)
			})
		})
	}
}

// The same, when all vminserts that reached it are taken off the list with it.
func TestStorageThatIsNotSeenMakesDirtyWhenNobodyReachesItAnyMore(t *testing.T) {
	onStage(t, 2, 2, nil, func(st *stage) {
		st.path("n0", "s1", func(p *downstream.Passage) { p.Unreachable = true })
		time.Sleep(2 * second)
		st.flow("n0", "s0")
		st.flow("n1", "s0", "s1")
		st.with("s1", func(a *actor) { a.answers = fmt.Errorf("timeout") })
		time.Sleep(2 * time.Minute)
		off := st.post("n1", "s1")
		time.Sleep(10 * second) // n1 has passed it on
		st.list("n0")
		time.Sleep(time.Minute)
		st.wantDirty(off, 160*second, 190*second)
	})
}

func TestStorageThatIsSeenAgainAndIsTheSameMakesNothingDirty(t *testing.T) {
	onStage(t, 1, 2, nil, func(st *stage) {
		st.flow("n0", "s0", "s1")
		st.with("s1", func(a *actor) { a.answers = fmt.Errorf("timeout") })
		time.Sleep(3 * time.Minute)
		off := st.post("n0", "s0", "s1")
		time.Sleep(30 * second)
		st.with("s1", func(a *actor) { a.answers = nil })
		time.Sleep(time.Minute)
		st.wantSettled(off, 245*second, 260*second)
	})
}

// A storage that counts as lost comes up, confirms rows, and dies again, all between two polls.
func TestLostStorageThatComesAndGoesUnseenMakesDirty(t *testing.T) {
	for name, trace := range map[string]func(*downstream.Passage){
		"rows sent":         func(p *downstream.Passage) { p.Sent++ },
		"connection broken": func(p *downstream.Passage) { p.ConnectionErrors++ },
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, 1, 2, nil, func(st *stage) {
				st.flow("n0", "s0")
				st.down("s1")
				st.path("n0", "s1", func(p *downstream.Passage) { p.Unreachable = true })
				time.Sleep(2 * time.Minute)
				off := st.post("n0", "s0")
				time.Sleep(5 * second)
				st.path("n0", "s1", trace)
				time.Sleep(time.Minute)
				st.wantDirty(off, 160*second, 175*second)
			})
		})
	}
}

func TestBrokenConnectionToStorageThatIsSeenMakesNothingDirty(t *testing.T) {
	onStage(t, 1, 2, nil, func(st *stage) {
		st.flow("n0", "s0", "s1")
		off := st.post("n0", "s0", "s1")
		time.Sleep(5 * second)
		st.path("n0", "s1", func(p *downstream.Passage) { p.ConnectionErrors++; p.Unreachable = true })
		time.Sleep(5 * second)
		st.path("n0", "s1", func(p *downstream.Passage) { p.Unreachable = false })
		time.Sleep(time.Minute)
		st.wantSettled(off, 35*second, 60*second)
	})
}

func TestVMInsertGoneForGoodMakesDirtyAtOnce(t *testing.T) {
	onStage(t, 2, 1, nil, func(st *stage) {
		off := st.post("n0", "s0")
		time.Sleep(second)
		st.list("n1")
		if st.mayPost("n0") {
			t.Error("it is off the list")
		}
		time.Sleep(time.Minute)
		st.wantDirty(off, 34*second, 40*second)
		if n := st.metric("ingestgw_forward_dirtied_blocks_total", nodeGone); n != 1 {
			t.Errorf("%v blocks counted as dirty for a vminsert that is gone", n)
		}
	})
}

func TestVMInsertThatComesBackToTheListIsAnotherOne(t *testing.T) {
	onStage(t, 1, 1, nil, func(st *stage) {
		st.flow("n0", "s0")
		off := st.post("n0", "s0")
		st.list()
		st.list("n0")
		time.Sleep(time.Minute)
		st.wantDirty(off, 34*second, 40*second)
		if !st.mayPost("n0") {
			t.Error("it is back")
		}
	})
}

func TestPollsThatFailForLessThanLostAfterHarmNothing(t *testing.T) {
	onStage(t, 1, 1, nil, func(st *stage) {
		st.flow("n0", "s0")
		off := st.post("n0", "s0")
		st.with("n0", func(a *actor) { a.answers = fmt.Errorf("503") })
		time.Sleep(50 * second)
		if !st.mayPost("n0") {
			t.Error("a failed poll proves nothing")
		}
		st.with("n0", func(a *actor) { a.answers = nil })
		time.Sleep(50 * second)
		st.wantSettled(off, 85*second, 105*second)
	})
}

func TestVMInsertUnreadableForLostAfterCountsAsRestarted(t *testing.T) {
	onStage(t, 1, 1, nil, func(st *stage) {
		st.flow("n0", "s0")
		off := st.post("n0", "s0")
		st.with("n0", func(a *actor) { a.answers = fmt.Errorf("503") })
		time.Sleep(62 * second)
		if st.mayPost("n0") {
			t.Error("it is lost")
		}
		st.with("n0", func(a *actor) { a.answers = nil })
		time.Sleep(60 * second)
		if !st.mayPost("n0") {
			t.Error("it is back")
		}
		st.wantDirty(off, 90*second, 110*second)
	})
}

// The rolling restart: one storage after the other, too close for anything to settle in between.
func TestRollingRestartOfStoragesSendsAgainOnce(t *testing.T) {
	onStage(t, 1, 60, nil, func(st *stage) {
		off := st.post("n0", stageNames("s", 60)...)
		for _, storage := range stageNames("s", 60) {
			time.Sleep(4 * second)
			st.restart(storage)
		}
		time.Sleep(5 * time.Minute)
		st.wantDirty(off, 260*second, 290*second)
	})
}

func TestEndlessRestartsDoNotKeepFromSendingAgain(t *testing.T) {
	onStage(t, 1, 3, nil, func(st *stage) {
		off := st.post("n0", stageNames("s", 3)...)
		for i := range 60 {
			time.Sleep(20 * second)
			st.restart(fmt.Sprintf("s%d", i%3))
		}
		st.wantDirty(off, 320*second, 335*second)
	})
}

// A storage that stands still answers no poll. vminsert's batch hangs until its deadlines, then it takes the storage for away.
func TestHangingStorage(t *testing.T) {
	onStage(t, 1, 3, nil, func(st *stage) {
		st.flow("n0", "s0", "s1")
		st.path("n0", "s2", func(p *downstream.Passage) { p.PendingRows = 1 })
		held := st.post("n0", "s0", "s2")
		st.freeze("s2")
		time.Sleep(2 * time.Minute)
		st.wantDirty(held, 90*second, 110*second)
		st.path("n0", "s2", func(p *downstream.Passage) { p.Unreachable = true; p.ConnectionErrors++; p.PendingRows = 0 })
		time.Sleep(5 * second)
		after := st.post("n0", "s0", "s1", "s2")
		time.Sleep(time.Minute)
		st.wantSettled(after, 160*second, 190*second)
	})
}

// A storage that stands still brings nothing to disk meanwhile.
func TestGapStartsTheTimeOnDiskAnew(t *testing.T) {
	onStage(t, 1, 2, nil, func(st *stage) {
		st.flow("n0", "s0", "s1")
		off := st.post("n0", "s0", "s1")
		time.Sleep(25 * second)
		st.freeze("s1")
		time.Sleep(7 * second)
		st.thaw("s1") // 37 s after the start
		time.Sleep(25 * second)
		st.wantUnsettled(off)
		time.Sleep(15 * second)
		st.wantSettled(off, 66*second, 75*second)
	})
}

func TestFrozenStorageKilledRightAfterItThawsMakesDirty(t *testing.T) {
	onStage(t, 1, 2, nil, func(st *stage) {
		st.flow("n0", "s0", "s1")
		off := st.post("n0", "s0", "s1")
		time.Sleep(28 * second)
		st.freeze("s1")
		time.Sleep(7 * second)
		st.thaw("s1")
		time.Sleep(2 * second)
		st.restart("s1")
		time.Sleep(60 * second)
		st.wantDirty(off, 70*second, 80*second)
	})
}

func TestSlowFlushTakesLongerThanTheSetting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, 1, 2, nil)
		st.with("s1", func(a *actor) { a.flags = map[string]string{"inmemoryDataFlushInterval": "30s"} })
		time.Sleep(5 * second)
		st.flow("n0", "s0", "s1")
		off := st.post("n0", "s0", "s1")
		time.Sleep(90 * second)
		st.wantSettled(off, 75*second, 90*second)
		if n := st.logs.count("need longer than INGESTGW_FORWARD_SETTLE"); n != 1 {
			t.Errorf("said %d times", n)
		}
	})
}

func TestPagesFromBeforeTheAnswerAreNotLookedAt(t *testing.T) {
	now := time.Now()
	path := downstream.Path{Addr: "s0"}
	reading := func(begun time.Duration, p downstream.Passage) *downstream.Reading {
		return &downstream.Reading{Begun: now.Add(begun), Ended: now.Add(begun), Paths: map[downstream.Path]downstream.Passage{path: p}}
	}
	b := &bucket{sent: now, legs: map[string]*leg{"n0": {before: reading(-second, downstream.Passage{})}}}
	l := b.legs["n0"]
	for _, begun := range []time.Duration{-second, 0, downstream.CacheAge - 1} {
		b.observe(l, &nodeEvidence{reading: reading(begun, downstream.Passage{})})
		if l.crossings != nil || !l.passed.IsZero() {
			t.Fatalf("a page read %s after the answer was looked at: it may show what was before it", begun)
		}
	}
	b.observe(l, &nodeEvidence{reading: reading(downstream.CacheAge, downstream.Passage{Received: 1})})
	if len(l.crossings) != 1 {
		t.Error("a page that shows the block was not looked at")
	}
}

func TestSeveralProcessesBehindOneAddress(t *testing.T) {
	onStage(t, 1, 1, nil, func(st *stage) {
		st.with("n0", func(a *actor) { a.jumps = []int{2000, 2001, 2002} })
		time.Sleep(10 * second)
		off := st.post("n0", "s0")
		time.Sleep(70 * second)
		st.wantSettled(off, 74*second, 80*second)
		if st.metric("ingestgw_forward_settle_mode", "time") != 1 || st.metric("ingestgw_downstream_jumping", "") != 1 {
			t.Error("not shown")
		}
		if n := st.logs.count("several vminserts answer at 10.0.0.0:8480"); n != 1 {
			t.Errorf("said %d times", n)
		}
		st.restart("s0") // the storages are still watched
		again := st.post("n0", "s0")
		time.Sleep(80 * second)
		st.wantDirty(again, 100*second, 130*second)
	})
}

func TestSeveralStoragesBehindOneAddressFallBackToTime(t *testing.T) {
	onStage(t, 1, 1, nil, func(st *stage) {
		st.flow("n0", "s0")
		st.with("s0", func(a *actor) { a.jumps = []int{2000, 2001, 2002} })
		time.Sleep(10 * second)
		off := st.post("n0", "s0")
		time.Sleep(70 * second)
		st.wantSettled(off, 74*second, 80*second)
		if st.metric("ingestgw_forward_settle_mode", "time") != 1 {
			t.Error("not shown")
		}
		if n := st.logs.count("several vmstorages answer at 10.0.1.0:8482"); n != 1 {
			t.Errorf("said %d times", n)
		}
		st.with("s0", func(a *actor) { a.jumps = nil })
		time.Sleep(8 * time.Minute)
		last := st.post("n0", "s0")
		time.Sleep(3 * time.Minute)
		if n := st.metric("ingestgw_forward_settle_mode", "watch"); n != 1 {
			t.Error("still by time")
		}
		if _, settled := st.part.settledTime(last); !settled {
			t.Error("what was sent while it jumped was held up")
		}
	})
}

func TestWatchInsistsOnTellingStoragesApart(t *testing.T) {
	onStage(t, 1, 1, func(c *SettleConfig) { c.SettleMode = settleWatch }, func(st *stage) {
		st.flow("n0", "s0")
		st.with("s0", func(a *actor) { a.jumps = []int{2000, 2001} })
		time.Sleep(10 * second)
		off := st.post("n0", "s0")
		time.Sleep(time.Hour)
		st.wantUnsettled(off)
		st.with("s0", func(a *actor) { a.jumps = nil })
		time.Sleep(15 * time.Minute)
		if times := st.part.dirtyTimes(off); len(times) != 1 {
			t.Errorf("dirty after %v, want once, when the storages can be told apart", times)
		}
	})
}

func TestWatchInsistsOnTellingProcessesApart(t *testing.T) {
	onStage(t, 1, 1, func(c *SettleConfig) { c.SettleMode = settleWatch }, func(st *stage) {
		st.with("n0", func(a *actor) { a.jumps = []int{2000, 2001} })
		time.Sleep(10 * second)
		st.flow("n0", "s0")
		off := st.post("n0", "s0")
		time.Sleep(time.Hour)
		st.wantUnsettled(off)
		st.with("n0", func(a *actor) { a.jumps = nil })
		time.Sleep(15 * time.Minute)
		if times := st.part.dirtyTimes(off); len(times) != 1 {
			t.Errorf("dirty after %v, want once, when the processes can be told apart", times)
		}
	})
}

func TestUnreadableMetricsFallBackToTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, 1, 1, nil)
		st.with("n0", func(a *actor) { a.answers = fmt.Errorf("%w: answered 404", downstream.ErrUnusable) })
		time.Sleep(10 * second)
		off := st.post("n0", "s0")
		time.Sleep(70 * second)
		st.wantSettled(off, 70*second, 75*second)
		if n := st.logs.count("the metrics of 10.0.0.0:8480 cannot be read"); n != 1 {
			t.Errorf("said %d times", n)
		}
		time.Sleep(10 * time.Minute)
		if n := st.logs.count("the metrics of 10.0.0.0:8480 cannot be read"); n < 2 {
			t.Error("not said again")
		}
		st.with("n0", func(a *actor) { a.answers = nil })
		time.Sleep(20 * second)
		if before := st.begin("n0"); before.byTime {
			t.Error("still by time although the metrics can be read")
		}
	})
}

// A proxy may answer 5xx for the metrics for ever, and pass samples on.
func TestMetricsThatAreNeverGivenFallBackToTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, 1, 1, nil)
		st.with("n0", func(a *actor) { a.answers = fmt.Errorf("%w: answered 502", downstream.ErrBusy) })
		time.Sleep(30 * second)
		if st.mayPost("n0") {
			t.Error("posted to before it is certain that its metrics do not come")
		}
		time.Sleep(time.Minute)
		off := st.post("n0", "s0")
		time.Sleep(70 * second)
		st.wantSettled(off, 150*second, 165*second)
		if st.logs.count("the metrics of 10.0.0.0:8480 cannot be read") == 0 {
			t.Error("not said")
		}
		st.down("n0")
		time.Sleep(2 * time.Minute)
		if st.mayPost("n0") {
			t.Error("a node that does not answer at all is none to post to")
		}
	})
}

// A vminsert that stands still takes connections too, and is over it, or killed, within minutes.
func TestMetricsThatNeverComeFallBackToTimeInTheEnd(t *testing.T) {
	onStage(t, 1, 1, nil, func(st *stage) {
		st.with("n0", func(a *actor) { a.answers = fmt.Errorf("%w: time-out", downstream.ErrNoAnswer) })
		time.Sleep(goneGrace - 10*second)
		if st.mayPost("n0") {
			t.Error("posted to although it may stand still")
		}
		time.Sleep(20 * second)
		off := st.post("n0", "s0")
		time.Sleep(70 * second)
		st.wantSettled(off, goneGrace+70*second, goneGrace+85*second)
		if st.logs.count("the metrics of 10.0.0.0:8480 cannot be read") == 0 {
			t.Error("not said")
		}
	})
}

func TestRestartThatIsSeenMakesDirtyWhatWentByTime(t *testing.T) {
	onStage(t, 2, 1, nil, func(st *stage) {
		st.with("n0", func(a *actor) { a.answers = fmt.Errorf("%w: answered 503", downstream.ErrBusy) })
		time.Sleep(70 * second)
		off := st.post("n0", "s0")
		time.Sleep(10 * second)
		st.restart("n0")
		st.with("n0", func(a *actor) { a.answers = nil })
		time.Sleep(60 * second)
		st.wantDirty(off, 115*second, 130*second)
	})
}

// With a page of 90 MB polls are minutes apart.
func TestOneFailedPollProvesNothingHoweverLongItTook(t *testing.T) {
	onStage(t, 1, 1, func(c *SettleConfig) { c.LostAfter = 5 * second }, func(st *stage) {
		st.pages(90e6)
		time.Sleep(10 * second)
		before := st.begin("n0")
		st.freeze("n0")
		time.Sleep(540 * second) // the poll has failed: it came after 256 s at most, and was given as long
		if n := st.metric("ingestgw_downstream_poll_failures_total", "10.0.0.0:8480"); n != 1 {
			t.Fatalf("%v polls have failed", n)
		}
		if after, ok := st.s.begin(stageEndpoint("n0")); !ok || after.epoch != before.epoch {
			t.Errorf("may post %v, epoch %d, before %d", ok, after.epoch, before.epoch)
		}
		time.Sleep(time.Hour)
		if st.mayPost("n0") {
			t.Error("it is lost")
		}
	})
}

func TestWatchInsistsOnReadableMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, 1, 1, func(c *SettleConfig) { c.SettleMode = settleWatch })
		st.with("n0", func(a *actor) { a.answers = fmt.Errorf("%w: answered 404", downstream.ErrUnusable) })
		time.Sleep(time.Minute)
		if st.mayPost("n0") {
			t.Error("nothing may be posted where nothing can be watched")
		}
	})
}

func TestStoragesThatCannotBeSeenFallBackToTime(t *testing.T) {
	for mode, settles := range map[string]bool{settleAuto: true, settleWatch: false} {
		synctest.Test(t, func(t *testing.T) {
			st := newStage(t, 1, 2, func(c *SettleConfig) { c.SettleMode = mode })
			st.down("s1") // for us; vminsert reaches it
			time.Sleep(5 * second)
			st.flow("n0", "s0", "s1")
			off := st.post("n0", "s0", "s1")
			time.Sleep(30 * second)
			st.wantUnsettled(off)
			time.Sleep(time.Hour)
			if settles {
				st.wantSettled(off, 64*second, 75*second)
			} else {
				st.wantUnsettled(off)
			}
			if st.logs.count("INGESTGW_FORWARD_STORAGE_URLS") == 0 {
				t.Error("not said what to configure")
			}
		})
	}
}

func TestStorageThatWasSeenIsWaitedForBeforeTheClockIsTrusted(t *testing.T) {
	onStage(t, 1, 2, nil, func(st *stage) {
		st.flow("n0", "s0", "s1")
		st.down("s1") // for us; vminsert reaches it
		time.Sleep(2 * time.Minute)
		off := st.post("n0", "s0", "s1")
		time.Sleep(2 * time.Minute)
		st.wantUnsettled(off)
		time.Sleep(6 * time.Minute)
		st.wantSettled(off, 5*time.Minute, 7*time.Minute)
	})
}

func TestSettleZeroTrustsTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, 1, 1, func(c *SettleConfig) { c.Settle = 0 })
		st.down("n0") // nobody looks
		off := st.post("n0")
		synctest.Wait()
		st.wantSettled(off, 0, 0)
		time.Sleep(second)
		if st.metric("ingestgw_forward_settle_mode", "off") != 1 {
			t.Error("not shown as off")
		}
	})
}

func TestTimeAsksForTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, 1, 1, func(c *SettleConfig) { c.SettleMode = settleTime })
		off := st.post("n0", "s0")
		time.Sleep(2 * time.Minute)
		st.wantSettled(off, 60*second, 61*second)
		if n := st.metric("ingestgw_downstream_up", ""); n != 0 {
			t.Errorf("%v targets are watched", n)
		}
	})
}

func TestBlockOnSeveralNodesWaitsForAllOfThem(t *testing.T) {
	onStage(t, 2, 1, nil, func(st *stage) {
		st.flow("n0", "s0")
		tickets := []ticket{st.begin("n0"), st.begin("n1"), st.begin("n0")}
		st.path("n0", "s0", func(p *downstream.Passage) { p.Received++ })
		st.path("n1", "s0", func(p *downstream.Passage) { p.Received++; p.PendingRows = 1 })
		st.s.sent(st.part, 0, tickets)
		time.Sleep(time.Minute)
		st.wantUnsettled(0)
		st.restart("n1")
		time.Sleep(time.Minute)
		st.wantDirty(0, 90*second, 110*second)
	})
}

func TestForgottenPartitionHearsNothing(t *testing.T) {
	onStage(t, 1, 1, nil, func(st *stage) {
		st.flow("n0", "s0")
		st.post("n0", "s0")
		st.s.forget(st.part)
		time.Sleep(2 * time.Minute)
		st.wantUnsettled(0)
		if n := st.metric("ingestgw_forward_unsettled_blocks", ""); n != 0 {
			t.Errorf("%v blocks are kept", n)
		}
	})
}

// While nothing can settle, what was sent must not fill the memory.
func TestBooksDoNotGrowWithWhatWaits(t *testing.T) {
	onStage(t, 3, 1, nil, func(st *stage) {
		const blocks = 4 * maxSpans
		for off := range buffer.Offset(blocks) {
			time.Sleep(20 * time.Millisecond)
			node := fmt.Sprintf("n%d", off%3) // none leaves two blocks in a row
			before := st.begin(node)
			st.path(node, "s0", func(p *downstream.Passage) { p.Received++; p.PendingRows++ })
			st.s.sent(st.part, off, []ticket{before})
		}
		st.s.mu.Lock()
		buckets, pieces := len(st.s.books.buckets), st.s.books.spanCount()
		st.s.mu.Unlock()
		if buckets > maxBuckets+openAtOnce || pieces > maxSpans {
			t.Errorf("%d buckets with %d spans for %d blocks", buckets, pieces, blocks)
		}
		for _, node := range stageNames("n", 3) {
			st.path(node, "s0", func(p *downstream.Passage) { p.PendingRows = 0 })
			st.flow(node, "s0")
		}
		time.Sleep(time.Minute)
		for _, off := range []buffer.Offset{0, 1, blocks / 2, blocks - 1} {
			st.wantSettled(off, blocks*20*time.Millisecond, blocks*20*time.Millisecond+time.Minute)
		}
	})
}

// Steady traffic over many nodes, or nodes whose pages are so large that they are polled rarely, makes many buckets; that they become
// few keeps none of them from settling.
func TestSteadyTrafficSettlesHoweverManyNodesThereAre(t *testing.T) {
	for _, c := range []struct {
		nodes  int
		page   int64
		rounds int // one a second
		within int // after so many nearly all of a round have settled
	}{{3, 0, 900, 45}, {24, 0, 900, 45}, {33, 0, 900, 45}, {8, 9 << 20, 1800, 210}, {1, 90 << 20, 7200, 1800}} {
		t.Run(fmt.Sprintf("%d nodes with pages of %d MiB", c.nodes, c.page>>20), func(t *testing.T) {
			onStage(t, c.nodes, 1, func(cfg *SettleConfig) { cfg.Pollers = 2 }, func(st *stage) {
				st.pages(c.page)
				for _, node := range stageNames("n", c.nodes) {
					st.flow(node, "s0")
				}
				time.Sleep(time.Hour / 4) // until polls are as rare as such pages make them
				buckets := 0
				for range c.rounds {
					for _, node := range stageNames("n", c.nodes) {
						st.post(node, "s0")
					}
					time.Sleep(second + time.Millisecond)
					st.s.mu.Lock()
					buckets = max(buckets, len(st.s.books.buckets))
					st.s.mu.Unlock()
				}
				st.part.mu.Lock()
				settled := len(st.part.settledAt)
				st.part.mu.Unlock()
				if due := (c.rounds - c.within) * c.nodes; settled < due*95/100 {
					t.Errorf("%d blocks have settled in %d seconds, of %d that had %d seconds or more for it", settled, c.rounds, due, c.within)
				}
				if sent := c.rounds * c.nodes; settled < sent/2 {
					t.Errorf("%d of %d blocks have settled in %d seconds", settled, sent, c.rounds)
				}
				if most := 2 * maxBuckets; buckets > most {
					t.Errorf("there were %d buckets, want at most %d", buckets, most)
				}
			})
		})
	}
}

func TestWhatBecomesOneBucketKeepsTheLaterAnswer(t *testing.T) {
	bk, at := newBooks(), time.Unix(1000, 0)
	for i, sent := range []struct {
		node  string
		after time.Duration
	}{{"n0", 0}, {"n1", 100 * time.Millisecond}, {"n0", 950 * time.Millisecond}} {
		bk.enter(nil, buffer.Offset(i), []ticket{{node: sent.node, before: received(0, 1)}}, at.Add(sent.after))
	}
	bk.close(at.Add(2 * time.Second))
	bk.coalesce(at.Add(time.Hour))
	if len(bk.buckets) != 1 || bk.buckets[0].sent != at.Add(950*time.Millisecond) {
		t.Errorf("%d buckets, the first got its last answer %v after the first ticket", len(bk.buckets), bk.buckets[0].sent.Sub(at))
	}
}

func TestWhatBecomesOneLegIsPassedWhenBothAre(t *testing.T) {
	now := time.Unix(2000, 0)
	passed := func(at time.Time) *leg {
		return &leg{epoch: 1, last: received(9, 9), crossings: map[downstream.Path]*crossing{}, passed: at}
	}
	l := passed(now)
	l.absorb(passed(now.Add(25 * time.Second)))
	if !l.passed.Equal(now.Add(25 * time.Second)) {
		t.Errorf("passed %v", l.passed)
	}
	unseen := &leg{epoch: 1, before: received(0, 1)}
	l.absorb(unseen)
	if !l.passed.IsZero() || l.before != unseen.before {
		t.Errorf("a leg that was not observed counts as passed at %v", l.passed)
	}
}

func TestSpansStaySortedAndJoined(t *testing.T) {
	var s spans
	for _, span := range []buffer.Span{{From: 5, To: 6}, {From: 1, To: 2}, {From: 3, To: 4}, {From: 4, To: 5}, {From: 9, To: 12}, {From: 2, To: 3}, {From: 0, To: 10}} {
		s = s.add(span)
	}
	if len(s) != 1 || s[0] != (buffer.Span{From: 0, To: 12}) || s.blocks() != 12 {
		t.Errorf("got %v", s)
	}
}

func TestBadSettleSettingsAreToldByName(t *testing.T) {
	good := SettleConfig{SettleMode: settleAuto, LostAfter: time.Minute, Pollers: 1}
	for want, change := range map[string]func(*SettleConfig){
		"INGESTGW_FORWARD_SETTLE is":    func(c *SettleConfig) { c.Settle = -1 },
		"INGESTGW_FORWARD_SETTLE_MODE":  func(c *SettleConfig) { c.SettleMode = "maybe" },
		"INGESTGW_FORWARD_LOST_AFTER":   func(c *SettleConfig) { c.LostAfter = second },
		"INGESTGW_FORWARD_POLLERS":      func(c *SettleConfig) { c.Pollers = 0 },
		"INGESTGW_FORWARD_STORAGE_URLS": func(c *SettleConfig) { c.StorageURLs = urls(t, "ftp://s0") },
	} {
		cfg := good
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %s, got %v", want, err)
		}
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}
