// SPDX-License-Identifier: Apache-2.0
// Rust: threads, channels, mutexes, panics caught and not, collections, files, a process's end.
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{mpsc, Arc, Barrier, Condvar, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

fn channels() {
    let (sender, receiver) = mpsc::channel();
    for id in 0..8u64 {
        let sender = sender.clone();
        thread::spawn(move || {
            for i in 0..100 {
                sender.send(id * 1000 + i).unwrap();
            }
        });
    }
    drop(sender);
    let mut all: Vec<u64> = receiver.iter().collect();
    all.sort_unstable();
    println!("{} messages, sum {}", all.len(), all.iter().sum::<u64>());
    let (sender, receiver) = mpsc::sync_channel::<u8>(1);
    let early = receiver.recv_timeout(Duration::from_millis(10)).is_err();
    drop(sender);
    println!("timed out: {}, closed: {}", early, receiver.recv().is_err());
}

fn shared() {
    let counts = Arc::new(RwLock::new(HashMap::new()));
    let barrier = Arc::new(Barrier::new(8));
    let total = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..8)
        .map(|id| {
            let (counts, barrier, total) = (counts.clone(), barrier.clone(), total.clone());
            thread::Builder::new()
                .name(format!("worker {}", id))
                .spawn(move || {
                    barrier.wait();
                    for i in 0..200usize {
                        *counts.write().unwrap().entry(i % 10).or_insert(0) += id;
                        total.fetch_add(1, Ordering::SeqCst);
                    }
                    thread::current().name().unwrap().len()
                })
                .unwrap()
        })
        .collect();
    let names: usize = threads.into_iter().map(|t| t.join().unwrap()).sum();
    let sorted: BTreeMap<_, _> = counts.read().unwrap().iter().map(|(k, v)| (*k, *v)).collect();
    println!("{:?} {} {}", sorted, total.load(Ordering::SeqCst), names);
    let pair = Arc::new((Mutex::new(false), Condvar::new()));
    let other = pair.clone();
    thread::spawn(move || {
        *other.0.lock().unwrap() = true;
        other.1.notify_one();
    });
    let mut ready = pair.0.lock().unwrap();
    while !*ready {
        ready = pair.1.wait(ready).unwrap();
    }
    let start = Instant::now();
    thread::sleep(Duration::from_millis(5));
    println!("ready, slept: {}", start.elapsed() >= Duration::from_millis(5));
}

fn panics() {
    panic::set_hook(Box::new(|info| println!("panic: {}", info.to_string().lines().last().unwrap_or("").len() > 0)));
    let caught = panic::catch_unwind(|| {
        let empty: Vec<u8> = Vec::new();
        let index = empty.len() + 3;
        empty[index]
    });
    println!("caught: {}", caught.is_err());
    let joined = thread::spawn(|| -> u8 { panic!("in a thread") }).join();
    println!("joined: {}", joined.unwrap_err().downcast_ref::<&str>().unwrap());
    let poisoned = Arc::new(Mutex::new(1));
    let inner = poisoned.clone();
    let _ = thread::spawn(move || {
        let _guard = inner.lock().unwrap();
        panic!("while locked");
    })
    .join();
    println!("poisoned: {}", poisoned.lock().is_err());
}

fn files(folder: &str) -> std::io::Result<()> {
    let base = format!("{}/rust/deep", folder);
    fs::create_dir_all(&base)?;
    let mut file = fs::File::create(format!("{}/lines", base))?;
    for i in 0..1000 {
        writeln!(file, "{} {:x}", i, i * i)?;
    }
    file.sync_all()?;
    let lines = BufReader::new(fs::File::open(format!("{}/lines", base))?).lines();
    let sum: usize = lines.map(|line| line.unwrap().len()).sum();
    fs::rename(format!("{}/lines", base), format!("{}/renamed", base))?;
    fs::copy(format!("{}/renamed", base), format!("{}/copied", base))?;
    let mut names: Vec<_> = fs::read_dir(&base)?.map(|e| e.unwrap().file_name()).collect();
    names.sort();
    println!("{} {:?} {:?}", sum, names, fs::File::open("/none").map(|_| ()).unwrap_err().kind());
    Ok(())
}

fn main() {
    channels();
    shared();
    panics();
    let folder = std::env::args().nth(1).unwrap_or_else(|| "/tmp".to_string());
    files(&folder).unwrap();
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).unwrap();
    println!("{} bytes of input, {} arguments", text.len(), std::env::args().count());
    std::process::exit(5);
}
