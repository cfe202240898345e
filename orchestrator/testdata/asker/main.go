// Command asker keeps one connection to an HTTP server and asks ten times a second, for as many
// seconds as its second argument says. It prints the numbers of requests and of answers.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(address, seconds string) error {
	n, err := strconv.Atoi(seconds)
	if err != nil {
		return err
	}
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	tick := time.NewTicker(100 * time.Millisecond)
	answered := 0
	for range 10 * n {
		<-tick.C
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: dut\r\n\r\n"); err != nil {
			break
		}
		answer, err := http.ReadResponse(answers, nil)
		if err != nil {
			break
		}
		if _, err := io.Copy(io.Discard, answer.Body); err != nil {
			break
		}
		answered++
	}
	fmt.Println(10*n, answered)
	return nil
}
