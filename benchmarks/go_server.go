// Streams on Go's net/http: a goroutine and a buffered channel for each client, as it is done in Go.
// It prints its port; each line on standard input, `COUNT RATE`, has it publish COUNT events, RATE in
// a second (0: all at once).
package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// Events that a client may be behind before the publisher waits for it.
const buffered = 64

type client struct {
	events chan []byte
	gone   <-chan struct{}
}

// A hub hands every event to every client.
type hub struct {
	mu      sync.Mutex
	clients map[*client]struct{}
}

func (h *hub) add(c *client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clients[c] = struct{}{}
}

func (h *hub) remove(c *client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.clients, c)
}

// publish waits for a client whose channel is full, so that no event is lost in a burst.
func (h *hub) publish(event []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.clients {
		select {
		case c.events <- event:
		case <-c.gone:
		}
	}
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	flusher, ok := w.(http.Flusher)
	if !ok {
		http.Error(w, "this connection cannot stream", http.StatusInternalServerError)
		return
	}
	c := &client{events: make(chan []byte, buffered), gone: r.Context().Done()}
	h.add(c)
	defer h.remove(c)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	if _, err := io.WriteString(w, ": connected\n\n"); err != nil {
		return
	}
	flusher.Flush()
	for {
		select {
		case event := <-c.events:
			if _, err := w.Write(event); err != nil {
				return
			}
			// What has piled up meanwhile leaves in the same write.
			for n := len(c.events); n > 0; n-- {
				if _, err := w.Write(<-c.events); err != nil {
					return
				}
			}
			flusher.Flush()
		case <-c.gone:
			return
		}
	}
}

// monotonic returns the nanoseconds of CLOCK_MONOTONIC, which the load client reads too. Go's own
// reading of that clock is not to be had as a number.
func monotonic() int64 {
	const clockMonotonic = 1
	var t syscall.Timespec
	_, _, errno := syscall.Syscall(
		syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&t)), 0)
	if errno != 0 {
		log.Fatal(errno)
	}
	return t.Nano()
}

func main() {
	runtime.GOMAXPROCS(1) // every server of these benchmarks has one core
	h := &hub{clients: make(map[*client]struct{})}
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "hello\n")
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { log.Fatal(server.Serve(listener)) }()
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)

	published := 0
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		var count, rate float64
		if _, err := fmt.Sscan(commands.Text(), &count, &rate); err != nil {
			log.Fatal(err)
		}
		start := time.Now()
		for n := 0; n < int(count); n++ {
			if rate > 0 {
				due := time.Duration(float64(n) / rate * float64(time.Second))
				time.Sleep(due - time.Since(start))
			}
			h.publish([]byte(fmt.Sprintf(
				"id: 3f9a1c07-1735689600000-%d\nevent: progress\ndata: {\"at\":%d,\"job\":\"7f3a91c2\","+
					"\"state\":\"running\",\"step\":\"render\",\"done\":0.4375}\n\n",
				published, monotonic())))
			published++
		}
	}
}
