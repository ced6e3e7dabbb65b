// SPDX-License-Identifier: Apache-2.0
// D: garbage collection with threads running, messages, ranges, exceptions, files.
import core.memory : GC;
import core.thread;
import core.sync.mutex;
import std.algorithm;
import std.array;
import std.concurrency;
import std.conv;
import std.file;
import std.path;
import std.range;
import std.stdio;

class Node {
    Node left, right;
    int value;
    this(int depth) {
        value = depth;
        if (depth > 0) {
            left = new Node(depth - 1);
            right = new Node(depth - 1);
        }
    }
    int sum() {
        return value + (left is null ? 0 : left.sum()) + (right is null ? 0 : right.sum());
    }
}

int inThread;  // thread-local by default
shared int total;

void worker(Tid owner, int id) {
    int sum;
    foreach (i; 0 .. 100) sum += receiveOnly!int();
    owner.send(sum * id);
}

int main(string[] arguments) {
    auto mutex = new Mutex;
    Thread[] threads;
    int joined;
    foreach (id; 1 .. 7) {
        threads ~= new Thread((int id) {
            return () {
                auto sum = new Node(11).sum();
                inThread += id;
                synchronized (mutex) joined += sum + inThread;
            };
        }(id)).start();
    }
    foreach (i; 0 .. 5) GC.collect();
    foreach (thread; threads) thread.join();
    writeln("threads ", joined, " ", inThread);
    int kept;
    foreach (i; 0 .. 60) kept += new Node(11).sum();
    GC.collect();
    writeln("garbage ", kept);
    Tid[] workers = iota(1, 4).map!(id => spawn(&worker, thisTid, id)).array;
    foreach (i; 0 .. 100) foreach (tid; workers) tid.send(i);
    int[] replies = iota(3).map!(i => receiveOnly!int()).array.sort.array;
    writeln("messages ", replies);
    int[string] counts;
    foreach (word; "to be or not to be".splitter(' ')) counts[word.idup]++;
    writeln(counts.byKeyValue.map!(p => p.key ~ p.value.to!string).array.sort);
    try {
        "not a number".to!int;
    } catch (ConvException error) {
        writeln("caught a conversion");
    }
    string folder = arguments.length > 1 ? arguments[1] : "/tmp";
    mkdirRecurse(buildPath(folder, "d", "deep"));
    auto name = buildPath(folder, "d", "deep", "lines");
    auto file = File(name, "w");
    foreach (i; 0 .. 300) file.writefln("%d %.3f", i, i / 7.0);
    file.close();
    writeln(File(name).byLine.map!(line => line.length).sum, " ", getSize(name), " ",
            dirEntries(folder, SpanMode.depth).filter!(e => e.isFile).walkLength);
    return 9;
}
