// Prints Fibonacci numbers: of the indexes in its arguments, or of one that it asks for.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// The next one does not fit into 64 bits.
const last = 93

func fibonacci(index uint64) uint64 {
	var a, b uint64 = 0, 1
	for ; index > 0; index-- {
		a, b = b, a+b
	}
	return a
}

func answer(text string) {
	index, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
	if err != nil || index > last {
		fmt.Fprintf(os.Stderr, "expected a number from 0 to %d, got %q\n", last, strings.TrimRight(text, "\r\n"))
		os.Exit(1)
	}
	fmt.Printf("Fibonacci sequence number at index %d is %d\n", index, fibonacci(index))
}

func main() {
	fmt.Println("Go - Fibonacci sequence example")
	if len(os.Args) < 2 {
		fmt.Println("Enter a non-negative number:")
		line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		answer(line)
	}
	for _, index := range os.Args[1:] {
		answer(index)
	}
}
