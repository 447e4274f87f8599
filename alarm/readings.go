package alarm

import (
	"time"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/gathered"
	"github.com/ingestgw/ingestgw/memory"
)

// Readings are all that rules look at, of one moment. Rates are per second over the last Window; a Figure that is not known is NaN, and
// every comparison with it false. They are values: as JSON they can be kept, and played to an Engine again.
type Readings struct {
	At time.Time
	// Window is what rates are over; 0 in the first moments of a process, when there are none.
	Window time.Duration

	// Servers are the vminserts and vmstorages by their own metrics, and Storages the vmstorages as all sides see them.
	Servers  []downstream.Vitals
	Storages []downstream.StorageView
	// Nodes are the vminserts as our own requests find them.
	Nodes []Node
	// Lookups are the names of servers that cannot be looked up.
	Lookups []downstream.FailedLookup

	// Main and Bulk are the backlogs of the partitions that this process forwards.
	Main, Bulk Backlog
	// Unsettled is the age in seconds of the oldest block of which it is not known whether it is on a vmstorage's disk. ByClock says
	// whether that is told by the clock, without proof, although proof is wanted.
	Unsettled downstream.Figure
	ByClock   bool
	// OnHold is how many partitions a newer version has written, so that nothing of them is sent.
	OnHold downstream.Figure
	// Lost is blocks that were accepted and can never be sent, as many as were found in the last Window.
	Lost downstream.Figure

	Senders Senders
	// Future is requests of senders per second with timestamps far ahead of our clock.
	Future  downstream.Figure
	Load    Load
	Tenants []Tenant
	Access  Access

	// Disk is the buffer on disk, Kafka that in Kafka; the other one is nil.
	Disk  *Disk
	Kafka *Kafka

	// Memory is GOGC, memory limit and what they cost; nil when it is not watched.
	Memory *memory.View
	// Cores are what this process uses, CPUs how many it may use.
	Cores downstream.Figure
	CPUs  int
	// CertificateEnds is when the listener's certificate does; zero without one.
	CertificateEnds time.Time

	// Canary is nil without one.
	Canary *Canary
}

// A Node is a vminsert as our own requests find it.
type Node struct {
	Name string
	// Paused says that it is left alone because it failed or refused.
	Paused bool
	// Taken, Busy (5xx), Refused (3xx and 4xx), TimedOut and Unreachable are requests per second by what came of them.
	Taken, Busy, Refused, TimedOut, Unreachable downstream.Figure
	// Seconds is how long requests take on average, time-outs included.
	Seconds downstream.Figure
	// InFlight is parts on their way.
	InFlight downstream.Figure
	// Stuck says that in the last minute it has taken nothing, and requests were not answered in time.
	Stuck bool
}

// failing says whether it takes nothing of what is sent to it.
func (n *Node) failing() bool {
	return n.Taken.Or(0) == 0 && n.Busy.Or(0)+n.Refused.Or(0)+n.TimedOut.Or(0)+n.Unreachable.Or(0) > 0
}

// A Backlog is what a lane has still to send.
type Backlog = gathered.Backlog

// Senders is what senders are answered, in requests per second.
type Senders struct {
	// All is every request. Full, Unavailable (the buffer), Spent (our memory) and Broken (a bug of ours) are those that were refused though nothing
	// is wrong with them; Unknown those whose tenant could not be found out because whoever knows did not answer.
	All, Full, Unavailable, Spent, Broken, Unknown downstream.Figure
}

// refused is requests refused through no fault of theirs.
func (s *Senders) refused() downstream.Figure {
	return downstream.Figure(s.Full.Or(0) + s.Unavailable.Or(0) + s.Spent.Or(0) + s.Broken.Or(0) + s.Unknown.Or(0))
}

// Load is samples per second, against what is usual.
type Load struct {
	// Offered is accepted from senders, and Sent taken by vminserts.
	Offered, Sent downstream.Figure
	// Usual is the median of what was offered in the minutes of the last hour in which nothing waited for long; unknown before ten of them.
	Usual downstream.Figure
	// Recent is what was offered in the last two minutes, Before the median of the hour before the last ten minutes, and Yesterday the mean of ten
	// minutes a day ago. The latter two are unknown until there is that much history.
	Recent, Before, Yesterday downstream.Figure
}

// A Tenant is what one of the busiest tenants sends, in samples per second.
type Tenant struct {
	Name string
	// Accepted is what was taken in. Above of them were above its sustained rate and went to the bulk lane; Refused is what its limits did not let in.
	Accepted, Above, Refused downstream.Figure
}

// Access is how senders are told apart.
type Access struct {
	// Known is requests per second whose sender was found out, Refused those that were refused for their credentials, and Credentials how many
	// different ones were refused in the last minute or two.
	Known, Refused, Credentials downstream.Figure
	// DirectoryDown says that the directory of tenants does not answer; StaleFor is for how long answers have been used past their time, in seconds.
	DirectoryDown bool
	StaleFor      downstream.Figure
	// KeysFailing says that the JSON Web Key Set cannot be read; KeysAge is the seconds since it was.
	KeysFailing bool
	KeysAge     downstream.Figure
	// ReloadRefused says that the file of tenants was not well when it was read last.
	ReloadRefused bool
}

// Disk is the buffer on disk, in bytes.
type Disk struct {
	// Main and Bulk are what the lanes take, MainQuota and BulkQuota what they may.
	Main, MainQuota, Bulk, BulkQuota downstream.Figure
	// Free is what the file system has left, Reserve what is left to others, and Capacity its size.
	Free, Reserve, Capacity downstream.Figure
	// Growth is by how many bytes per second Free shrinks, and Fills by how many Main grows.
	Growth, Fills downstream.Figure
	// Sync is how long one fsync takes on average, in seconds. Errors is writes and fsyncs that failed, as many as in the last Window.
	Sync, Errors downstream.Figure
}

// Kafka is the buffer in Kafka.
type Kafka struct {
	// UnreachableFor is the seconds since a broker answered last; 0 when one does.
	UnreachableFor downstream.Figure
	// Acknowledged and Failed are tries to store a block, per second; Unstored is blocks that were given up.
	Acknowledged, Failed, Unstored downstream.Figure
	// UnderReplicated and Leaderless are partitions of our topics.
	UnderReplicated, Leaderless downstream.Figure
	// Throttled is the part of the time that brokers make us wait.
	Throttled downstream.Figure
	// MainRetention and BulkRetention are for how many seconds the topics of the lanes keep what is in them; infinite for ever.
	MainRetention, BulkRetention downstream.Figure
	// Unowned is partitions that no process forwards. Partitions is how many the main lane has, Members how many processes forward.
	Unowned, Partitions, Members downstream.Figure
	// Unsafe are settings of topics with which acknowledged samples are not safe, as topic/setting, sorted.
	Unsafe []string
}

// Canary is how old the freshest sample is that can be read.
type Canary struct {
	// Age is that of the canary's newest sample that went through the buffer and is readable, in seconds; unknown before the first one.
	Age downstream.Figure
	// WriteError says why its last sample was not taken by the buffer; empty when it was.
	WriteError string
	// Nodes are the ages by the vminsert that they went through, with the buffer left out.
	Nodes map[string]downstream.Figure
	// Every is the seconds between two samples.
	Every downstream.Figure
	// Selects are the vmselects, and what came of asking them: empty for an answer.
	Selects map[string]string
}
