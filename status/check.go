package status

import "log/slog"

// CheckToken says why a Server would not take the token of operators that the settings name; nil too if they name none.
func (c Config) CheckToken() error {
	return newGuard(c, slog.New(slog.DiscardHandler)).load()
}

// CheckSocket says why a Server would get no unix socket where the settings want one, by making one there for a moment; nil too if
// they want none. A socket that a process has left behind is taken away, as a Server would.
func (c Config) CheckSocket() error {
	if c.Socket == "" {
		return nil
	}
	s, err := listenSocket(c.Socket)
	if err != nil {
		return err
	}
	return s.Close()
}
