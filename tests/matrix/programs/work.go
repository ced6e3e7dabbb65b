// SPDX-License-Identifier: Apache-2.0
// Go: goroutines, channels, select, timers, garbage, maps, a nil pointer recovered from, files.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type node struct {
	left, right *node
	value       int
}

func grow(depth int) *node {
	if depth == 0 {
		return &node{value: 1}
	}
	return &node{grow(depth - 1), grow(depth - 1), depth}
}

func (n *node) sum() int {
	if n == nil {
		return 0
	}
	return n.value + n.left.sum() + n.right.sum()
}

func goroutines() {
	results := make(chan int, 10)
	var group sync.WaitGroup
	for i := 0; i < 1000; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			results <- i * i
		}(i)
	}
	go func() { group.Wait(); close(results) }()
	sum := 0
	for result := range results {
		sum += result
	}
	fmt.Println("goroutines:", sum)
	var mutex sync.RWMutex
	var once sync.Once
	var count int64
	for i := 0; i < 50; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			once.Do(func() { count += 1000 })
			mutex.Lock()
			count++
			mutex.Unlock()
		}()
	}
	group.Wait()
	fmt.Println("locks:", count)
}

func garbage() {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	total := 0
	for i := 0; i < 30; i++ {
		total += grow(13).sum()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	fmt.Println("garbage:", total, after.NumGC > before.NumGC, after.Mallocs > before.Mallocs)
}

func timers() {
	ticker := time.NewTicker(2 * time.Millisecond)
	timeout := time.After(10 * time.Second)
	ticks := 0
	for ticks < 5 {
		select {
		case <-ticker.C:
			ticks++
		case <-timeout:
			fmt.Println("too slow")
			return
		}
	}
	ticker.Stop()
	var fired int32
	time.AfterFunc(time.Millisecond, func() { atomic.StoreInt32(&fired, 1) })
	start := time.Now()
	for atomic.LoadInt32(&fired) == 0 && time.Since(start) < 10*time.Second {
		runtime.Gosched()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	<-ctx.Done()
	fmt.Println("timers:", ticks, fired, errors.Is(ctx.Err(), context.DeadlineExceeded))
}

// spin has no calls: only a signal can take the processor away from it.
func spin() {
	var stop int32
	var turns int64
	for i := 0; i < 4; i++ {
		go func() {
			for atomic.LoadInt32(&stop) == 0 {
				turns++
			}
		}()
	}
	time.Sleep(20 * time.Millisecond)
	runtime.GC()
	atomic.StoreInt32(&stop, 1)
	fmt.Println("preempted")
}

func recovered() {
	defer func() {
		err, ok := recover().(runtime.Error)
		fmt.Println("recovered:", ok, strings.Contains(err.Error(), "nil pointer"))
	}()
	var nothing *node
	fmt.Println(nothing.value)
}

func recurse(depth int) int {
	var frame [128]int
	frame[depth%128] = depth
	if depth == 0 {
		return 0
	}
	return recurse(depth-1) + frame[depth%128] - depth + 1
}

func files(folder string) error {
	base := filepath.Join(folder, "go", "deep")
	if err := os.MkdirAll(base, 0o755); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(base, "lines"))
	if err != nil {
		return err
	}
	writer := bufio.NewWriter(file)
	for i := 0; i < 1000; i++ {
		fmt.Fprintln(writer, i, i*i)
	}
	writer.Flush()
	file.Close()
	content, err := os.ReadFile(filepath.Join(base, "lines"))
	if err != nil {
		return err
	}
	os.Rename(filepath.Join(base, "lines"), filepath.Join(base, "renamed"))
	var names []string
	filepath.WalkDir(filepath.Join(folder, "go"), func(path string, entry fs.DirEntry, err error) error {
		names = append(names, entry.Name())
		return err
	})
	sort.Strings(names)
	_, missing := os.Open("/none")
	fmt.Printf("files: %x %v %v\n", sha256.Sum256(content), names, errors.Is(missing, fs.ErrNotExist))
	return nil
}

func main() {
	goroutines()
	garbage()
	timers()
	spin()
	recovered()
	fmt.Println("deep:", recurse(100000))
	folder := "/tmp"
	if len(os.Args) > 1 {
		folder = os.Args[1]
	}
	if err := files(folder); err != nil {
		fmt.Println(err)
	}
	text, _ := json.Marshal(map[string]any{"name": "go", "list": []int{1, 2, 3}, "nested": map[string]bool{"b": true, "a": false}})
	fmt.Println(string(text))
	lines := 0
	for scanner := bufio.NewScanner(os.Stdin); scanner.Scan(); lines++ {
	}
	fmt.Println(lines, "lines of input")
	os.Exit(4)
}
