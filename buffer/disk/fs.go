package disk

import "io"

// fileSystem is what the log asks of a file system. Tests give it one that loses power.
//
// Directory entries (Create, Rename, Remove, Mkdir) are durable once SyncDir has returned nil for their directory; a rename is
// atomic. Paths are slash-separated. Methods are safe for concurrent use.
type fileSystem interface {
	// Mkdir makes the directory and its parents, and makes their entries durable. One that exists is no error.
	Mkdir(path string) error
	// Create opens an empty file for reading and writing; an older file of that name is emptied.
	Create(path string) (file, error)
	// Open opens a file for reading, OpenWrite for reading and writing. The error wraps fs.ErrNotExist when there is none.
	Open(path string) (file, error)
	OpenWrite(path string) (file, error)
	// Rename gives a file another name in the same directory; a file that had that name is gone.
	Rename(from, to string) error
	// Remove removes a file. The error wraps fs.ErrNotExist when there is none.
	Remove(path string) error
	// ReadDir lists a directory in the order of names.
	ReadDir(path string) ([]dirEntry, error)
	// SyncDir makes the directory's entries durable.
	SyncDir(path string) error
	// Lock takes the lock that the file stands for, until it is closed or the process ends. The error is *lockedError when
	// another process has it.
	Lock(path string) (io.Closer, error)
	// Space tells the free bytes that we may use, and the size of the file system that the path is on.
	Space(path string) (free, total int64, err error)
}

// file is an open file. ReadAt and WriteAll are safe for concurrent use.
type file interface {
	io.ReaderAt
	io.Closer
	// WriteAll writes all bytes of bufs from off on. An error leaves any part of them written.
	WriteAll(bufs [][]byte, off int64) error
	// Sync makes the file's bytes and size durable. After an error nobody knows which are, and another Sync must not be
	// believed for bytes that were written before.
	Sync() error
	Truncate(size int64) error
	Size() (int64, error)
}

type dirEntry struct {
	name string
	dir  bool
}

// allocated is what a file of that size takes of the disk, nearly.
func allocated(size int64) int64 {
	const block = 4096
	return (size + block - 1) / block * block
}
