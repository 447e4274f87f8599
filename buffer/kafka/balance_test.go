package kafka

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/segmentio/kafka-go"
)

// A crowd is the members of a group and what each holds, as rebalances make it.
type crowd struct {
	generation int32
	topics     map[string]int // partitions of each
	members    map[string]ownership
	wants      map[string][]string // topics by member; all when it is not there
}

func newCrowd(topics map[string]int) *crowd {
	return &crowd{topics: topics, members: map[string]ownership{}, wants: map[string][]string{}}
}

// rebalance shares everything out anew, as kafka-go has it done: members and partitions come in any order.
func (c *crowd) rebalance(t *testing.T) kafka.GroupMemberAssignments {
	t.Helper()
	var members []kafka.GroupMember
	for id, holds := range c.members {
		data, err := json.Marshal(holds)
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, kafka.GroupMember{ID: id, Topics: c.subscribed(id), UserData: data})
	}
	var partitions []kafka.Partition
	for topic, n := range c.topics {
		for p := range n {
			partitions = append(partitions, kafka.Partition{Topic: topic, ID: p})
		}
	}
	rand.Shuffle(len(partitions), func(i, j int) { partitions[i], partitions[j] = partitions[j], partitions[i] })
	a := assign(members, partitions)
	c.check(t, a)
	c.generation++
	for id := range c.members {
		c.members[id] = ownership{Generation: c.generation, Partitions: a[id]}
	}
	return a
}

func (c *crowd) subscribed(id string) []string {
	if topics, ok := c.wants[id]; ok {
		return topics
	}
	return slices.Sorted(maps.Keys(c.topics))
}

// check says that each partition has one owner among those who want it, and that nobody has more than one more than another.
func (c *crowd) check(t *testing.T, a kafka.GroupMemberAssignments) {
	t.Helper()
	overall := map[string]int{}
	for topic, n := range c.topics {
		owners := map[int]string{}
		var shares []int
		for id := range c.members {
			own := a[id][topic]
			overall[id] += len(own)
			if !slices.Contains(c.subscribed(id), topic) {
				if len(own) > 0 {
					t.Errorf("%s gets %v of topic %s, which it does not want", id, own, topic)
				}
				continue
			}
			shares = append(shares, len(own))
			for _, p := range own {
				if other, taken := owners[p]; taken || p < 0 || p >= n {
					t.Errorf("partition %d of topic %s goes to %s, and to %q", p, topic, id, other)
				}
				owners[p] = id
			}
		}
		if len(shares) > 0 && (len(owners) != n || slices.Max(shares)-slices.Min(shares) > 1) {
			t.Errorf("topic %s: %d of %d partitions have an owner, shares are %v", topic, len(owners), n, shares)
		}
	}
	if shares := slices.Collect(maps.Values(overall)); len(c.wants) == 0 && len(shares) > 0 && slices.Max(shares)-slices.Min(shares) > 1 {
		t.Errorf("of all topics together, shares are %v", shares)
	}
}

// moved counts the partitions which somebody who was there before and after has lost.
func moved(before, after map[string]ownership) (n int) {
	for id, o := range before {
		if _, there := after[id]; !there {
			continue
		}
		for topic, list := range o.Partitions {
			for _, p := range list {
				if !slices.Contains(after[id].Partitions[topic], p) {
					n++
				}
			}
		}
	}
	return n
}

func (c *crowd) join(id string) { c.members[id] = ownership{Generation: -1} }

func TestPartitionsAreSpreadEvenlyWhoeverComesAndGoes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		c := newCrowd(map[string]int{})
		for topic := range 1 + rnd.IntN(3) {
			c.topics[fmt.Sprint("topic-", topic)] = rnd.IntN(20)
		}
		for step := range 20 {
			if id := fmt.Sprint("member-", rnd.IntN(6)); c.members[id].Generation != 0 {
				delete(c.members, id)
				delete(c.wants, id)
			} else {
				c.join(id)
				if step%3 == 0 {
					all := slices.Sorted(maps.Keys(c.topics))
					c.wants[id] = all[:rnd.IntN(len(all)+1)]
				}
			}
			if rnd.IntN(5) == 0 {
				c.topics["topic-0"] += rnd.IntN(3)
			}
			c.rebalance(t)
		}
		if t.Failed() {
			return
		}
	}
}

func TestMemberThatLeavesAndComesBackMovesNobodyElsesPartitions(t *testing.T) {
	for _, topics := range []map[string]int{{"main": 12}, {"main": 10}, {"main": 12, "bulk": 12, "dead": 3}, {"main": 7, "bulk": 5}, {"main": 2}} {
		for size := 2; size <= 7; size++ {
			c := newCrowd(topics)
			for i := range size {
				c.join(fmt.Sprint("member-", i))
				c.rebalance(t)
			}
			before := maps.Clone(c.members)
			delete(c.members, "member-1")
			c.rebalance(t)
			if len(topics) == 1 && moved(before, c.members) > 0 { // with more, a share evens out those of other topics
				t.Errorf("%v, %d members: the leaving of one has moved partitions of others: %v, then %v", topics, size, before, c.members)
			}
			without := maps.Clone(c.members)
			c.join("member-1 again")
			after := c.rebalance(t)
			share := 0
			for _, own := range after["member-1 again"] {
				share += len(own)
			}
			if n := moved(without, c.members); len(topics) == 1 && n != share || n > share+len(topics)*2 {
				t.Errorf("%v, %d members: who came got %d, and %d were moved", topics, size, share, n)
			}
		}
	}
}

func TestNothingMovesWhenNobodyComesOrGoes(t *testing.T) {
	c := newCrowd(map[string]int{"main": 12, "bulk": 11, "dead": 3})
	for i := range 5 {
		c.join(fmt.Sprint("member-", i))
	}
	c.rebalance(t)
	for range 5 {
		before := maps.Clone(c.members)
		c.rebalance(t)
		if n := moved(before, c.members); n > 0 {
			t.Fatalf("%d partitions have moved: %v, then %v", n, before, c.members)
		}
	}
}

func TestLaterGenerationIsRightWhenTwoClaimAPartition(t *testing.T) {
	for range 20 { // members come in any order
		c := newCrowd(map[string]int{"main": 4})
		c.members["asleep"] = ownership{Generation: 5, Partitions: map[string][]int{"main": {0, 1}}}
		c.members["awake"] = ownership{Generation: 7, Partitions: map[string][]int{"main": {0, 1}}}
		a := c.rebalance(t)
		if !slices.Equal(a["awake"]["main"], []int{0, 1}) {
			t.Fatalf("%v", a)
		}
	}
}

func TestMembersThatSayNothingOrNonsenseGetTheirShare(t *testing.T) {
	topics := []string{"main"}
	partitions := []kafka.Partition{{Topic: "main", ID: 0}, {Topic: "main", ID: 1}, {Topic: "main", ID: 2}}
	a := assign([]kafka.GroupMember{
		{ID: "new", Topics: topics},
		{ID: "other software", Topics: topics, UserData: []byte("\x00\x01range")},
		{ID: "greedy", Topics: topics, UserData: []byte(`{"generation":9,"partitions":{"main":[0,0,1,-1,77],"gone":[1]}}`)},
	}, partitions)
	owners := map[int]string{}
	for id, own := range a {
		if len(own["main"]) != 1 {
			t.Errorf("%s gets %v", id, own)
		}
		for _, p := range own["main"] {
			owners[p] = id
		}
	}
	if len(owners) != 3 || owners[0] != "greedy" {
		t.Errorf("%v", a)
	}
	if a := assign(nil, partitions); len(a) != 0 {
		t.Errorf("nobody is there, and gets %v", a)
	}
}
