package guest

import (
	"fmt"
	"io"
	"io/fs"
)

// entry is one file of an initramfs.
type entry struct {
	mode         uint32 // as in stat(2): type and permissions
	major, minor uint32 // of a device node
	data         []byte // contents, or the target of a symbolic link
}

// Types of files in a mode.
const (
	typeDir     = 0o040000
	typeRegular = 0o100000
	typeLink    = 0o120000
	typeChar    = 0o020000
)

const (
	newcMagic   = "070701"
	newcTrailer = "TRAILER!!!"
	newcMax     = 1<<32 - 1 // sizes are eight hexadecimal digits
)

// newcWriter writes the cpio format of the kernel's initramfs ("newc",
// Documentation/driver-api/early-userspace/buffer-format.rst). The library of the format writes no
// device numbers, without which init would start without a console. Owners and times are zero and
// inodes count up, so that the same files give the same bytes.
type newcWriter struct {
	w     io.Writer
	inode uint32
	err   error
}

func (n *newcWriter) add(name string, e entry) {
	if n.err == nil && len(e.data) > newcMax {
		n.err = fmt.Errorf("add %s to the initramfs: %w: over 4 GiB", name, fs.ErrInvalid)
	}
	n.inode++
	n.write(name, e, n.inode)
}

func (n *newcWriter) close() error {
	n.write(newcTrailer, entry{}, 0)
	return n.err
}

func (n *newcWriter) write(name string, e entry, inode uint32) {
	if n.err != nil {
		return
	}
	const uid, gid, links, mtime, devMajor, devMinor, checksum = 0, 0, 1, 0, 0, 0, 0
	header := fmt.Appendf(make([]byte, 0, 128+len(name)), "%s%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00", newcMagic,
		inode, e.mode, uid, gid, links, mtime, len(e.data), devMajor, devMinor, e.major, e.minor, len(name)+1, checksum, name)
	_, n.err = n.w.Write(pad(header))
	if n.err == nil {
		_, n.err = n.w.Write(e.data)
	}
	if n.err == nil {
		_, n.err = n.w.Write(make([]byte, -len(e.data)&3))
	}
}

func pad(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }
