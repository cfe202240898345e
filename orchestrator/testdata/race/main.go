// Command race sends two datagrams of one socket at the same moment on two CPUs, again and again,
// each time from a new socket, as a resolver that asks for A and AAAA at once. Its arguments are
// the address to send to and how often.
package main

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(target, times string) error {
	address, err := netip.ParseAddrPort(target)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(times)
	if err != nil {
		return err
	}
	to := &unix.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()}
	sockets := make([]int, n)
	for i := range sockets {
		if sockets[i], err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0); err != nil {
			return err
		}
		// The port is chosen here, not by the racing sends.
		if err := unix.Bind(sockets[i], &unix.SockaddrInet4{}); err != nil {
			return err
		}
	}
	var arrived atomic.Int64
	var failed atomic.Int64
	var threads sync.WaitGroup
	for cpu := range 2 {
		threads.Go(func() {
			runtime.LockOSThread()
			var set unix.CPUSet
			set.Set(cpu)
			if err := unix.SchedSetaffinity(0, &set); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			for i, socket := range sockets {
				arrived.Add(1)
				for arrived.Load() < int64(2*(i+1)) { // the other one
				}
				if unix.Sendto(socket, []byte{byte(cpu)}, 0, to) != nil {
					failed.Add(1)
				}
			}
		})
	}
	threads.Wait()
	fmt.Printf("%d pairs, %d sends failed\n", n, failed.Load())
	return nil
}
