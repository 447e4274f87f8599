package kafka

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"sync"

	"github.com/segmentio/kafka-go"
)

// A sticky balancer spreads the partitions of each topic evenly over the members that want it, and moves as few as that allows:
// a pod that restarts takes and gives back its own share, and everybody else's partitions stay where they are. kafka-go calls it in
// the member that leads the group.
//
// It implements kafka.GroupBalancer. What a member holds travels as its user data, JSON.
type sticky struct {
	held func() ownership

	mu      sync.Mutex
	members int            // of the group when it was last led from here; 0 when somebody else leads it
	shared  map[string]int // how many partitions of each topic were shared out then
}

// An ownership is the partitions that a member holds, by topic, and since which generation of the group: when two members say that
// they hold the same one, the later generation is right.
type ownership struct {
	Generation int32            `json:"generation"`
	Partitions map[string][]int `json:"partitions,omitempty"`
}

// stickyName is the protocol's name. Members of one group have to agree on it.
const stickyName = "ingestgw-sticky"

// ProtocolName implements kafka.GroupBalancer.
func (*sticky) ProtocolName() string { return stickyName }

// UserData implements kafka.GroupBalancer.
func (b *sticky) UserData() ([]byte, error) {
	b.mu.Lock()
	b.members = 0
	b.mu.Unlock()
	return json.Marshal(b.held())
}

// alone says whether there is no other member, as far as is known.
func (b *sticky) alone() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.members == 1
}

// sharedOut is how many partitions of each topic were last shared out from here; ok is false when somebody else does that.
func (b *sticky) sharedOut() (shared map[string]int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.shared, b.members > 0
}

// AssignGroups implements kafka.GroupBalancer.
func (b *sticky) AssignGroups(members []kafka.GroupMember, partitions []kafka.Partition) kafka.GroupMemberAssignments {
	shared := map[string]int{}
	for _, p := range partitions {
		shared[p.Topic]++
	}
	b.mu.Lock()
	b.members, b.shared = len(members), shared
	b.mu.Unlock()
	return assign(members, partitions)
}

// assign is the balancing, which depends on its arguments alone.
func assign(members []kafka.GroupMember, partitions []kafka.Partition) kafka.GroupMemberAssignments {
	a := kafka.GroupMemberAssignments{}
	holds := map[string]ownership{}
	for _, m := range members {
		a[m.ID] = map[string][]int{}
		var o ownership
		if json.Unmarshal(m.UserData, &o) == nil { // who says nothing holds nothing
			holds[m.ID] = o
		}
	}
	byTopic := map[string][]int{}
	for _, p := range partitions {
		byTopic[p.Topic] = append(byTopic[p.Topic], p.ID)
	}
	load := map[string]int{} // partitions of all topics by member
	for _, topic := range slices.Sorted(maps.Keys(byTopic)) {
		var takers []string
		for _, m := range members {
			if slices.Contains(m.Topics, topic) {
				takers = append(takers, m.ID)
			}
		}
		for id, own := range share(topic, byTopic[topic], takers, holds, load) {
			slices.Sort(own)
			a[id][topic] = own
			load[id] += len(own)
		}
	}
	return a
}

// share spreads the partitions of one topic. Nobody gets more than one more than anybody else; who has least of the other topics
// is the first to get more.
func share(topic string, partitions []int, takers []string, holds map[string]ownership, load map[string]int) map[string][]int {
	if len(takers) == 0 {
		return nil
	}
	owner := map[int]string{}
	for _, id := range takers {
		for _, p := range holds[id].Partitions[topic] {
			other, claimed := owner[p]
			if slices.Contains(partitions, p) && (!claimed || holds[id].Generation > holds[other].Generation) {
				owner[p] = id
			}
		}
	}
	kept := map[string][]int{}
	slices.Sort(partitions)
	for _, p := range partitions {
		if id, ok := owner[p]; ok {
			kept[id] = append(kept[id], p)
		}
	}
	// Larger shares go to those who have least of the other topics; among these they stay where they are.
	slices.SortFunc(takers, func(x, y string) int {
		return cmp.Or(cmp.Compare(load[x], load[y]), cmp.Compare(len(kept[y]), len(kept[x])), cmp.Compare(x, y))
	})
	least, more := len(partitions)/len(takers), len(partitions)%len(takers)
	var free []int
	shares := map[string]int{}
	for i, id := range takers {
		shares[id] = least
		if i < more {
			shares[id]++
		}
		if over := len(kept[id]) - shares[id]; over > 0 {
			free = append(free, kept[id][shares[id]:]...)
			kept[id] = kept[id][:shares[id]]
		}
	}
	for _, p := range partitions {
		if _, claimed := owner[p]; !claimed {
			free = append(free, p)
		}
	}
	for _, id := range takers {
		n := min(shares[id]-len(kept[id]), len(free))
		kept[id], free = append(kept[id], free[:n]...), free[n:]
	}
	return kept
}
