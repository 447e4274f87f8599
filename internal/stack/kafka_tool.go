package stack

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// Tool runs one of Kafka's own command-line tools, such as "org.apache.kafka.tools.TopicCommand", and returns what it prints. That
// takes one or two seconds.
func (k *Kafka) Tool(ctx context.Context, class string, args ...string) (string, error) {
	args = append(append(k.javaArgs(), "-Xmx128m", "-Dorg.apache.logging.log4j.level=OFF", class), args...)
	cmd := exec.Command(k.java, args...)
	var out, errs bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = environment(), &out, &errs
	cmd.SysProcAttr = attributes()
	r, err := begin(cmd)
	if err != nil {
		return "", fmt.Errorf("run %s: %w", class, err)
	}
	select {
	case <-r.ended:
	case <-ctx.Done():
		_ = cmd.Process.Kill() // fails only when it has ended
		<-r.ended
		return "", fmt.Errorf("run %s: %w", class, ctx.Err())
	}
	if r.err != nil {
		return "", fmt.Errorf("run %s: %w\n%s%s", class, r.err, tail(out.Bytes()), tail(errs.Bytes()))
	}
	return out.String(), nil
}

// A TopicPartition is one partition of a topic.
type TopicPartition struct {
	Topic     string
	Partition int
}

// A GroupOffset is how far a group has come in a partition, in messages. Without a commit, Committed and Lag are -1.
type GroupOffset struct {
	Committed, End, Lag int64
}

// GroupOffsets is what kafka-consumer-groups tells of a group, for every partition that it has a commit or a member for.
func (k *Kafka) GroupOffsets(ctx context.Context, group string) (map[TopicPartition]GroupOffset, error) {
	text, err := k.Tool(ctx, "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
		"--bootstrap-server", k.Bootstrap(), "--describe", "--offsets", "--group", group)
	if err != nil {
		return nil, err
	}
	return groupOffsets(text)
}

// groupOffsets reads the table that kafka-consumer-groups prints. A number that is not known is "-"; so is the topic of a member
// without partitions. When the tool fails, it only prints so.
func groupOffsets(text string) (map[TopicPartition]GroupOffset, error) {
	offsets := map[TopicPartition]GroupOffset{}
	var columns []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "Error:"):
			return nil, fmt.Errorf("kafka-consumer-groups: %s", strings.TrimSpace(line))
		case slices.Contains(fields, "CURRENT-OFFSET"):
			columns = fields
			continue
		case len(columns) == 0 || len(fields) != len(columns): // what it says besides
			continue
		}
		cell := func(column string) string {
			if i := slices.Index(columns, column); i >= 0 {
				return fields[i]
			}
			return ""
		}
		if cell("TOPIC") == "-" {
			continue
		}
		var numbers [4]int64
		for i, column := range []string{"PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG"} {
			if cell(column) == "-" {
				numbers[i] = -1
				continue
			}
			var err error
			if numbers[i], err = strconv.ParseInt(cell(column), 10, 64); err != nil {
				return nil, fmt.Errorf("%s in %q of kafka-consumer-groups: %w", column, line, err)
			}
		}
		at := TopicPartition{Topic: cell("TOPIC"), Partition: int(numbers[0])}
		offsets[at] = GroupOffset{Committed: numbers[1], End: numbers[2], Lag: numbers[3]}
	}
	return offsets, nil
}
