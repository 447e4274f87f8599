package kafka

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/segmentio/kafka-go"

	"github.com/ingestgw/ingestgw/buffer"
)

// A commit is what a group has committed for one partition: an offset, and the rest of the progress in the commit's metadata,
// which FORMAT.md describes.
type commit struct {
	offset buffer.Offset // -1: nothing was committed
	// writer is a random name of who has saved it, empty when that was not us.
	writer   string
	anchor   anchor
	anchored bool
	spans    []buffer.Span // behind the committed offset
	// unknown is why a newer version's progress cannot be read; it wraps buffer.ErrNewerVersion. Only offset is known then.
	unknown error
}

const (
	commitVersion = "1"
	// maxMetadata is what Kafka takes by default (offset.metadata.max.bytes).
	maxMetadata = 4096
)

// metadata is the text that goes with the committed offset.
func (c commit) metadata() (string, error) {
	progress := buffer.Progress{Done: append([]buffer.Span{{To: c.offset}}, c.spans...)}
	binary, err := progress.AppendBinary(nil)
	if err != nil {
		return "", err
	}
	anchor := "-"
	if c.anchored {
		anchor = strconv.FormatInt(int64(c.anchor.offset), 10) + ":" + strconv.FormatUint(uint64(c.anchor.sum), 16)
	}
	return strings.Join([]string{commitVersion, c.writer, anchor, base64.StdEncoding.EncodeToString(binary)}, " "), nil
}

// parseCommit reads what was committed. Metadata of somebody else, such as a tool that has reset the offset, counts as none.
func parseCommit(offset int64, metadata string) commit {
	c := commit{offset: buffer.Offset(max(offset, -1))}
	version, rest, _ := strings.Cut(metadata, " ")
	if n, err := strconv.Atoi(version); err == nil && n > 1 && strings.Count(rest, " ") >= 2 {
		c.unknown = fmt.Errorf("progress of version %d, known is up to %s: %w", n, commitVersion, buffer.ErrNewerVersion)
		return c
	}
	fields := strings.Split(rest, " ")
	if c.offset < 0 || version != commitVersion || len(fields) != 3 {
		return c
	}
	var progress buffer.Progress
	binary, err := base64.StdEncoding.DecodeString(fields[2])
	if err == nil {
		err = progress.UnmarshalBinary(binary)
	}
	switch {
	case errors.Is(err, buffer.ErrNewerVersion):
		c.unknown = err
		return c
	case err != nil, progress.Committed() != c.offset: // somebody has moved the offset and left the text as it was
		return c
	}
	c.writer, c.spans = fields[0], progress.Done[1:]
	if at, checksum, ok := strings.Cut(fields[1], ":"); ok {
		o, err1 := strconv.ParseInt(at, 10, 64)
		n, err2 := strconv.ParseUint(checksum, 16, 32)
		c.anchor, c.anchored = anchor{buffer.Offset(o), uint32(n)}, err1 == nil && err2 == nil
	}
	return c
}

// Load is as buffer.Partition says. An offset that a tool has committed counts as everything before it done.
func (p *partition) Load(ctx context.Context) (buffer.Progress, error) {
	c, err := p.member.committed(ctx, p.lane.topic, p.number)
	if err != nil {
		return buffer.Progress{}, fmt.Errorf("load progress of %v: %w", p.id, err)
	}
	p.lane.ends.forget(p.number) // they may be those of a topic that was there before
	spans, err := p.lane.boundsOf(ctx, p.number)
	if err != nil {
		return buffer.Progress{}, fmt.Errorf("load progress of %v: %w", p.id, err)
	}
	why, err := p.foreign(ctx, c, spans[0])
	if err != nil {
		return buffer.Progress{}, fmt.Errorf("load progress of %v: %w", p.id, err)
	}
	if why != "" {
		p.lane.tellReplaced(p.number, why)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commit = c
	if c.offset < 0 || why != "" {
		return buffer.Progress{Log: p.id.Log, Done: []buffer.Span{{To: spans[0].From}}}, nil
	}
	if c.anchored {
		p.anchors = anchors{c.anchor}
	}
	return buffer.Progress{Log: p.id.Log, Done: append([]buffer.Span{{To: c.offset}}, slices.Clone(c.spans)...)}, nil
}

// foreign says why a commit belongs to another topic of the same name, if it does.
func (p *partition) foreign(ctx context.Context, c commit, kept buffer.Span) (why string, err error) {
	if c.offset > kept.To {
		return fmt.Sprintf("it ends at %d, %d blocks of it had been forwarded", kept.To, c.offset), nil
	}
	if !c.anchored {
		return "", nil
	}
	same, err := p.lane.holds(ctx, p.number, c.anchor)
	if err != nil || same {
		return "", err
	}
	return fmt.Sprintf("another block stands at offset %d", c.anchor.offset), nil
}

// Save is as buffer.Partition says. Between two generations of the group nothing can be saved, which is ErrUnavailable.
func (p *partition) Save(ctx context.Context, progress buffer.Progress) error {
	if progress.Log != p.id.Log {
		return fmt.Errorf("save progress of %v: it belongs to log %q", p.id, progress.Log)
	}
	c := p.commitOf(progress)
	for {
		err := p.trySave(ctx, c)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, kafka.OffsetMetadataTooLarge) && len(c.spans) > 0:
			// The broker takes less than usual (offset.metadata.max.bytes). What is forgotten is sent again.
			c.spans = buffer.Progress{Done: append([]buffer.Span{{To: c.offset}}, c.spans...)}.Shortened(len(c.spans) / 2).Done[1:]
		default:
			return fmt.Errorf("save progress of %v: %w", p.id, err)
		}
	}
}

func (p *partition) commitOf(progress buffer.Progress) commit {
	c := commit{offset: progress.Committed(), writer: p.member.writer}
	if len(progress.Done) > 1 {
		c.spans = slices.Clone(progress.Done[1:])
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c.anchor, c.anchored = p.anchors.before(c.offset)
	return c
}

func (p *partition) trySave(ctx context.Context, c commit) error {
	metadata, err := c.metadata()
	if err != nil {
		return err
	}
	if len(metadata) > maxMetadata {
		return kafka.OffsetMetadataTooLarge
	}
	if err := p.member.commit(ctx, p, kafka.OffsetCommit{Partition: p.number, Offset: int64(c.offset), Metadata: metadata}); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commit = c
	p.anchors.forget(c.offset)
	return nil
}

// committedBySomebodyElse says whether a commit is neither what we have loaded nor one of ours.
func (p *partition) committedBySomebodyElse(c commit) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	ours := c.writer == p.member.writer
	return c.unknown != nil || !ours && (c.offset != p.commit.offset || c.writer != p.commit.writer)
}

// commit commits an offset of a partition as a member of the current generation.
func (m *member) commit(ctx context.Context, p *partition, c kafka.OffsetCommit) error {
	m.mu.Lock()
	g, h := m.generation, m.holding[place{p.lane.topic, p.number}]
	ours, may := h != nil && h.partition == p, g != nil && m.compared
	m.mu.Unlock()
	switch {
	case !ours:
		return buffer.ErrFenced
	case !may:
		return fmt.Errorf("%w: the consumer group is between two generations", buffer.ErrUnavailable)
	}
	answer, err := p.lane.client.OffsetCommit(ctx, &kafka.OffsetCommitRequest{
		GroupID: m.group, GenerationID: int(g.ID), MemberID: g.MemberID,
		Topics: map[string][]kafka.OffsetCommit{p.lane.topic: {c}},
	})
	if err == nil {
		err = errors.New("the coordinator's answer says nothing of it")
		for _, one := range answer.Topics[p.lane.topic] {
			if one.Partition == c.Partition {
				err = one.Error
			}
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kafka.OffsetMetadataTooLarge):
		return err
	case errors.Is(err, kafka.IllegalGeneration), errors.Is(err, kafka.UnknownMemberId), errors.Is(err, kafka.FencedInstanceID):
		return m.stale(p, g, err)
	}
	return fmt.Errorf("%w: %w", buffer.ErrUnavailable, err)
}

// stale is for a commit that was refused since the group has gone on without us: others have our partitions, unless we have
// noticed meanwhile and are in the next generation ourselves.
func (m *member) stale(p *partition, g *kafka.Generation, err error) error {
	m.mu.Lock()
	now := m.generation
	m.mu.Unlock()
	if now != g {
		return fmt.Errorf("%w: %w", buffer.ErrUnavailable, err)
	}
	m.loseOne(p)
	return fmt.Errorf("%w: %w", buffer.ErrFenced, err)
}

// committed is what the group has committed for one partition.
func (m *member) committed(ctx context.Context, topic string, number int) (commit, error) {
	commits, err := m.commits(ctx, map[string][]int{topic: {number}})
	if err != nil {
		return commit{}, err
	}
	c, ok := commits[place{topic, number}]
	if !ok {
		return commit{}, fmt.Errorf("%w: the coordinator's answer says nothing of it", buffer.ErrUnavailable)
	}
	return c, c.unknown
}

// commits is what the group has committed for these partitions.
func (m *member) commits(ctx context.Context, asked map[string][]int) (map[place]commit, error) {
	var client *kafka.Client
	for topic := range asked {
		client = m.lanes[topic].client // any will do
	}
	return commitsOf(ctx, client, m.group, asked)
}

// commitsOf is what a group has committed for these partitions.
func commitsOf(ctx context.Context, client *kafka.Client, group string, asked map[string][]int) (map[place]commit, error) {
	answer, err := client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: group, Topics: asked})
	if err == nil {
		err = answer.Error
	}
	if err != nil {
		return nil, fmt.Errorf("committed offsets: %w: %w", buffer.ErrUnavailable, err)
	}
	commits := map[place]commit{}
	for topic, list := range answer.Topics {
		for _, one := range list {
			if one.Error != nil {
				return nil, fmt.Errorf("committed offset of topic %s, partition %d: %w: %w", topic, one.Partition, buffer.ErrUnavailable, one.Error)
			}
			commits[place{topic, one.Partition}] = parseCommit(one.CommittedOffset, one.Metadata)
		}
	}
	return commits, nil
}
