// Prints its arguments, WHO from the environment, and the Fibonacci numbers for the indexes on stdin.
package main

import (
	"fmt"
	"os"
	"strings"
)

// One goroutine makes the numbers, the other one takes the first ones of them.
func fibonacci(index int) uint64 {
	numbers := make(chan uint64)
	go func() {
		var a, b uint64 = 0, 1
		for i := 0; i <= index; i++ {
			numbers <- a
			a, b = b, a+b
		}
		close(numbers)
	}()
	var last uint64
	for number := range numbers {
		last = number
	}
	return last
}

func main() {
	who, set := os.LookupEnv("WHO")
	if !set {
		who = "nobody"
	}
	words := append([]string{fmt.Sprintf("hello from Go args=%d", len(os.Args)-1)}, os.Args[1:]...)
	fmt.Printf("%s WHO=%s\n", strings.Join(words, " "), who)
	var index int
	for {
		if _, err := fmt.Scan(&index); err != nil {
			return
		}
		fmt.Printf("fib(%d)=%d\n", index, fibonacci(index))
	}
}
