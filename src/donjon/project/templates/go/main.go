// {{name}}: greets each client and sends back what it says.
//
// The listener is open already: it is the fourth entry of Enarx.toml, hence descriptor 3. TLS happens outside.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"syscall"
)

const listenerFD = 3

func main() {
	// A goroutine that waits lets the others run only when its descriptor does not block.
	if err := syscall.SetNonblock(listenerFD, true); err != nil {
		log.Fatalf("descriptor %d is no listener: %v", listenerFD, err)
	}
	listener, err := net.FileListener(os.NewFile(listenerFD, "listener"))
	if err != nil {
		log.Fatal(err)
	}
	for {
		client, err := listener.Accept()
		if err != nil {
			log.Print(err)
			continue
		}
		go serve(client)
	}
}

func serve(client net.Conn) {
	defer client.Close()
	fmt.Fprintln(client, "hello from {{name}}: say something")
	io.Copy(client, client)
}
