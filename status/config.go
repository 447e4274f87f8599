package status

import "github.com/ingestgw/ingestgw/internal/settings"

// Config is the settings of the listener for operators, read with prefix ADMIN.
type Config struct {
	Listen settings.Address `default:":8482" desc:"Address that serves metrics, health and profiles, as host:port; port 0 lets the system choose. Keep it away from senders: profiles show memory."`
}
