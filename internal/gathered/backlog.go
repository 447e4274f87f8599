package gathered

import "github.com/ingestgw/ingestgw/downstream"

// A Backlog is what this process has still to send of a lane, of a partition, or of everything.
type Backlog struct {
	// Age is that of the oldest block not sent, in seconds. Blocks is counted; Bytes, compressed, and Samples are estimates.
	Age, Blocks, Bytes, Samples downstream.Figure
	// Arriving and Sent are blocks per second over the last minute.
	Arriving, Sent downstream.Figure
	// Drain is the seconds until nothing is left if all goes on as in the last minute, infinite when that is never.
	Drain downstream.Figure
}

// notably is how much one rate has to be above another for them to differ.
const notably = 1.02

// Growing says whether more arrives than is sent; false if that is not known.
func (b *Backlog) Growing() bool { return b.Arriving > b.Sent*notably }

// Shrinking says whether it will be gone some time; false if that is not known.
func (b *Backlog) Shrinking() bool { return b.Sent > b.Arriving*notably }

// Backlog is that of the series that match, such as "lane", "main".
func (m *Moment) Backlog(match ...string) Backlog {
	sum := func(name string) downstream.Figure { return downstream.Figure(m.Sum(name, match...)) }
	greatest := func(name string) downstream.Figure { return downstream.Figure(m.Greatest(name, match...)) }
	return Backlog{
		Age: greatest(UnsentAge), Blocks: sum(UnsentBlocks), Bytes: sum(UnsentBytes), Samples: sum(UnsentSamples),
		Arriving: sum(ArrivingBlocks), Sent: sum(SentBlocks), Drain: greatest(TimeToDrain),
	}
}
