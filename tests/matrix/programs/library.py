# SPDX-License-Identifier: Apache-2.0
"""Python: json, threads, sqlite3, re, hashlib, decimal, zlib, struct, tempfile, asyncio, signals."""
import asyncio, collections, concurrent.futures, ctypes, datetime, decimal, functools, hashlib, io
import itertools, json, math, os, pathlib, pickle, queue, random, re, select, shutil, signal, socket
import sqlite3, struct, sys, tempfile, threading, time, zlib

folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "/tmp")


def threads():
    todo, done, lock, total = queue.Queue(), queue.Queue(), threading.Lock(), 0

    def work():
        nonlocal total
        while (item := todo.get()) is not None:
            with lock:
                total += item
            done.put(item * item)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for item in range(200):
        todo.put(item)
    for worker in workers:
        todo.put(None)
    for worker in workers:
        worker.join()
    print("threads", total, sum(done.get() for _ in range(200)))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        print("pool", list(pool.map(lambda n: n ** 3, range(10))))
    event, local = threading.Event(), threading.local()
    local.value = 1
    threading.Timer(0.01, event.set).start()
    print("timer", event.wait(20), threading.Condition().acquire())
    spinning = threading.Thread(target=lambda: sum(range(2_000_000)))
    spinning.start()
    print("counted", sum(range(1_000_000)))
    spinning.join()


def databases():
    path = folder / "test.db"
    with sqlite3.connect(path) as database:
        database.execute("create table words (word text primary key, count integer)")
        database.executemany("insert into words values (?, ?)",
                             [(f"word{i}", i * i % 97) for i in range(500)])
    database.close()
    database = sqlite3.connect(path)
    print("sqlite", database.execute("select count(*), sum(count), max(word) from words").fetchone())
    try:
        database.execute("insert into words values ('word1', 1)")
    except sqlite3.IntegrityError as error:
        print(error)
    database.close()


async def asynchronous():
    async def later(name, delay):
        await asyncio.sleep(delay)
        return name

    print("gather", await asyncio.gather(later("b", 0.02), later("a", 0.01)))
    try:
        await asyncio.wait_for(later("late", 30), 0.02)
    except asyncio.TimeoutError:
        print("timeout")
    print("in a thread", await asyncio.to_thread(math.factorial, 20))
    left, right = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=left)
    right.sendall(b"line\n")
    print("stream", await reader.readline())
    writer.close()
    right.close()


def signals():
    seen = []
    signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    signal.signal(signal.SIGALRM, lambda number, frame: seen.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    signal.pause()
    print("signals", [signal.Signals(number).name for number in seen])


def files():
    base = folder / "python" / "deep"
    base.mkdir(parents=True)
    for i in range(50):
        (base / f"file{i}").write_text(str(i) * i)
    print("files", sum(entry.stat().st_size for entry in base.iterdir()))
    shutil.copytree(base, folder / "python" / "copy")
    os.symlink("deep/file7", folder / "python" / "link")
    print((folder / "python" / "link").read_text(), os.path.realpath(folder / "python" / "link").endswith("deep/file7"))
    with tempfile.TemporaryDirectory(dir=folder) as name:
        (pathlib.Path(name) / "inner").write_bytes(os.urandom(100))
    try:
        open("/none/none")
    except FileNotFoundError as error:
        print(error)


def texts():
    text = "The 3 quick brown foxes, 12 lazy dogs; 2024-02-29."
    print(re.findall(r"\d+", text), re.sub(r"(\w+) (\w+)", r"\2 \1", text), re.split(r"[,;]\s*", text))
    value = {"a": [1, 2.5, None, True], "ü": {"nested": "\u20ac\n"}}
    print(json.dumps(value, sort_keys=True), json.loads(json.dumps(value)) == value)
    for name in ("md5", "sha256", "blake2b", "sha3_256"):
        print(name, hashlib.new(name, text.encode()).hexdigest()[:16])
    packed = zlib.compress(text.encode() * 100)
    print(len(zlib.decompress(packed)), struct.unpack("<IhB", struct.pack("<IhB", 1 << 31, -5, 7)))
    decimal.getcontext().prec = 40
    print(decimal.Decimal(2).sqrt(), datetime.date(2024, 2, 29) + datetime.timedelta(366))
    random.seed(5)
    print([random.randrange(1000) for _ in range(5)], pickle.loads(pickle.dumps(value)) == value)
    print(collections.Counter(text.lower()).most_common(3), 2 ** 200, list(itertools.permutations("abc"))[3])
    print(ctypes.CDLL(None).abs(-5), time.strftime("%Y-%j", time.gmtime(86400 * 365)))


def recursion(depth):
    return recursion(depth + 1) + 1


threads()
databases()
asyncio.run(asynchronous())
signals()
files()
texts()
try:
    recursion(0)
except RecursionError as error:
    print(type(error).__name__)
print(len(sys.stdin.read()), "characters of input")
sys.exit(13)
