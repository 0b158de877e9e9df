// A small HTTP/1.1 server: a few pages, by the standard library's net/http.
//
// The program opens no socket and knows no TLS: it finds the listener that Enarx.toml calls "http" already open.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

const page = `<!doctype html>
<title>A Keep</title>
<h1>Hello from a Keep</h1>
<p>This page came from a WebAssembly program that knows nothing of TLS.
<p>There is also <a href="/about.txt">some text</a>.
`

func main() {
	routes := http.NewServeMux()
	// "GET" takes HEAD along; the library answers any other method with 405, any other path with 404.
	routes.HandleFunc("GET /{$}", serve("text/html; charset=utf-8", page))
	routes.HandleFunc("GET /about.txt", serve("text/plain; charset=utf-8",
		"A small HTTP server in Go, compiled to WebAssembly, in a Keep.\n"))

	listener, err := listenerNamed("http")
	if err != nil {
		log.Fatalf("http: %v", err)
	}
	server := &http.Server{
		Handler:           routes,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    8192,
	}
	log.Fatalf("http: %v", server.Serve(listener))
}

func serve(contentType, body string) http.HandlerFunc {
	return func(response http.ResponseWriter, _ *http.Request) {
		response.Header().Set("Content-Type", contentType)
		fmt.Fprint(response, body)
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
		return nil, fmt.Errorf("no descriptor has the name %q: does Enarx.toml have one?", name)
	}
	// A goroutine that waits lets the others run only when its descriptor does not block.
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	return net.FileListener(os.NewFile(uintptr(fd), name))
}
