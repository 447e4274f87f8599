// Package forward sends buffered records to vminsert and remembers what has settled.
//
// Samples flow through its files in this order: schedule.go reads blocks of a partition, oldest first, and ships them; fleet.go
// finds a node with room for each; post.go sends the block's records to it one by one; settle.go decides when what was sent is
// safe in the cluster, or has to be sent again; and schedule.go saves what has settled as the partition's progress.
package forward
