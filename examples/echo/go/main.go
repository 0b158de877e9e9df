// A TCP echo server: whatever a client sends comes back. One goroutine per client.
//
// The program opens no socket. Donjon opens what Enarx.toml lists and hands it over as descriptors; whether the wire
// speaks TLS is none of this file's business.
package main

import (
	"errors"
	"io"
	"log"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

func main() {
	listener, err := listenerNamed("echo")
	if err != nil {
		log.Fatalf("echo: %v", err)
	}
	for {
		client, err := listener.Accept()
		if err != nil {
			// That client is gone, or there are too many at the moment. The next one may have more luck.
			log.Printf("echo: accept: %v", err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		go echo(client)
	}
}

func echo(client net.Conn) {
	defer client.Close()
	buffer := make([]byte, 64*1024)
	for {
		length, err := client.Read(buffer)
		if length > 0 {
			if _, err := client.Write(buffer[:length]); err != nil {
				return
			}
		}
		if err != nil {
			if err != io.EOF {
				log.Printf("echo: %v", err)
			}
			return
		}
	}
}

// listenerNamed finds the listener that Enarx.toml calls so: FD_NAMES has the names of all descriptors in order.
// Without FD_NAMES it is descriptor 3.
func listenerNamed(name string) (net.Listener, error) {
	fd := 3
	if names, set := os.LookupEnv("FD_NAMES"); set {
		fd = -1
		for i, candidate := range strings.Split(names, ":") {
			if candidate == name && fd < 0 {
				fd = i
			}
		}
	}
	if fd < 0 {
		return nil, errors.New("no descriptor has the name \"" + name + "\": does Enarx.toml have one?")
	}
	// A goroutine that waits lets the others run only when its descriptor does not block.
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	return net.FileListener(os.NewFile(uintptr(fd), name))
}
