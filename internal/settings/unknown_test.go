package settings

import "testing"

// The names of ingestgw's settings matter less than what people make of them.
func TestSuggestionsForUnknownVariables(t *testing.T) {
	names := []string{
		"G_BUFFER", "G_BUFFER_DIR", "G_BUFFER_LINGER", "G_BUFFER_MAX_BYTES", "G_FORWARD_SETTLE", "G_FORWARD_TIMEOUT", "G_FORWARD_URLS",
		"G_INGEST_LISTEN", "G_INGEST_MAX_BODY", "G_KAFKA_BROKERS", "G_KAFKA_GROUP", "G_KAFKA_SASL_PASSWORD_FILE", "G_KAFKA_TOPIC_PREFIX",
		"G_LOG_LEVEL", "G_MEMORY_GOGC", "G_MEMORY_LIMIT", "G_ROLE", "G_SHUTDOWN_TIMEOUT", "G_VMSELECT_URLS",
	}
	for name, want := range map[string]string{
		"G_KAFKA_BROKER":         "G_KAFKA_BROKERS", // a letter is missing, wrong, or swapped
		"G_KAKFA_BROKERS":        "G_KAFKA_BROKERS",
		"G_BUFER_DIR":            "G_BUFFER_DIR",
		"G_FORWARD_URL":          "G_FORWARD_URLS",
		"G_MEMORYLIMIT":          "G_MEMORY_LIMIT",
		"G_BROKERS":              "G_KAFKA_BROKERS", // a word is missing
		"G_KAFKA_PASSWORD_FILE":  "G_KAFKA_SASL_PASSWORD_FILE",
		"G_MAX_BYTES":            "G_BUFFER_MAX_BYTES",
		"G_DIR":                  "G_BUFFER_DIR",
		"G_GOGC":                 "G_MEMORY_GOGC",
		"G_SETTLE":               "G_FORWARD_SETTLE",
		"G_KAFKA_PREFIX":         "G_KAFKA_TOPIC_PREFIX",
		"G_LEVEL":                "G_LOG_LEVEL",
		"G_BUFFER_DISK_DIR":      "G_BUFFER_DIR", // a word too much
		"G_KAFKA_CONSUMER_GROUP": "G_KAFKA_GROUP",
		"G_BUFFER_DIRECTORY":     "G_BUFFER_DIR",
		"G_BUFFER_MAXBYTES":      "G_BUFFER_MAX_BYTES",
		"G_KAFKA_TOPIC":          "G_KAFKA_TOPIC_PREFIX",
		"G_KAFKA_BROKERS_URLS":   "G_KAFKA_BROKERS",
	} {
		if got := nearest(name, names); got != want {
			t.Errorf("did you mean %s by %s? want %s", got, name, want)
		}
	}
}
