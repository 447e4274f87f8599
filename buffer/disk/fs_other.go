//go:build unix && !linux

package disk

// WriteAll writes piece by piece where there is no pwritev. os.File.Sync does what makes bytes durable on such systems
// (F_FULLFSYNC on macOS).
func (f osFile) WriteAll(bufs [][]byte, off int64) error {
	for _, b := range bufs {
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}
