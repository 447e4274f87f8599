package disk

import "syscall"

// damageErrors are what a disk that does not give what is stored on it may answer.
func damageErrors() []error {
	return []error{syscall.EIO, syscall.EUCLEAN, syscall.EBADMSG, syscall.ENODATA}
}
