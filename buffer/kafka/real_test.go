package kafka

import (
	"testing"

	"github.com/ingestgw/ingestgw/buffer/buffertest"
	"github.com/ingestgw/ingestgw/internal/stack"
)

// realKafka marks a test that runs brokers of Apache Kafka: -short leaves it out.
func realKafka(t *testing.T, brokers int) *stack.Kafka {
	t.Helper()
	if testing.Short() {
		t.Skip("runs brokers of Apache Kafka; left out with -short")
	}
	return stack.StartKafka(t, stack.KafkaSpec{Brokers: brokers})
}

func TestStoreKeepsItsPromisesOnApacheKafka(t *testing.T) {
	buffertest.Run(t, suite(realKafka(t, 1).Addrs()))
}
