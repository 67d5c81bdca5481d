//! D6, D7, C3: the databases of a process share their workers fairly.

use std::path::Path;

use cortenkv::{Builder, Config, Db, Durability, WorkerPool};

fn builder(dir: &Path) -> Builder {
    Db::builder(dir).durability(Durability::None).segment_bytes(64 << 10)
}

/// Leaves a database with so many segments' worth of records, a part of each of them garbage.
fn make_garbage(dir: &Path, keys: u32) {
    // Nobody works for it meanwhile.
    let idle = WorkerPool::manual().unwrap();
    let db = builder(dir).worker_pool(&idle).build().unwrap();
    for version in 0..3 {
        for n in (0..keys).filter(|n| version == 0 || n % 3 != 0) {
            db.put(n.to_be_bytes(), format!("{version} ").repeat(50)).unwrap();
        }
    }
    db.close().unwrap();
}

fn cpus() -> u64 {
    std::thread::available_parallelism().map_or(1, |cpus| cpus.get()) as u64
}

#[test]
fn a_database_with_much_to_do_does_not_hold_up_the_others() {
    let root = tempfile::tempdir().unwrap();
    let dirs: Vec<_> = (0..3).map(|n| root.path().join(n.to_string())).collect();
    make_garbage(&dirs[0], 60_000);
    make_garbage(&dirs[1], 6_000);
    make_garbage(&dirs[2], 6_000);
    let pool = WorkerPool::manual().unwrap();
    let open = |dir| builder(dir).worker_pool(&pool).build().unwrap();
    let databases: Vec<Db> = dirs.iter().map(|dir| open(dir)).collect();
    let steps = || pool.stats().queues.iter().map(|queue| queue.steps).collect::<Vec<u64>>();
    let jobs = |n: usize| databases[n].stats().compaction.jobs;
    let mut rounds = 0;
    while jobs(1) == 0 || jobs(2) == 0 {
        assert!(pool.step(), "there is work");
        rounds += 1;
        assert!(rounds < 100_000);
    }
    // All three had something to do up to this point: their numbers of steps differ by little.
    let shared = steps();
    let (least, most) = (shared.iter().min().unwrap(), shared.iter().max().unwrap());
    assert!(*least * 2 >= *most, "{shared:?}");
    while jobs(0) == 0 {
        assert!(pool.step(), "there is work");
    }
    assert!(steps()[0] > shared[0], "the large one had more to do: {shared:?}");
    let stats = databases[0].stats().pool;
    assert_eq!(stats.queues.len(), 3);
    assert_eq!(stats.queues[0].name, dirs[0].display().to_string());
    assert_eq!(stats.workers, 0, "nobody but this thread");
    assert_eq!(stats.steps, stats.queues.iter().map(|queue| queue.steps).sum::<u64>());
    let depth: u64 = stats.queues.iter().map(|queue| queue.depth).sum();
    assert_eq!(stats.queue_depth_permille, depth * 1_000 / 3);
    drop(databases);
    assert_eq!(pool.stats().queues.len(), 0);
    assert!(!pool.step());
}

#[test]
fn workers_are_twice_the_processors_or_the_databases_up_to_a_bound() {
    let root = tempfile::tempdir().unwrap();
    let pool = WorkerPool::new(0, 256).unwrap();
    assert_eq!(pool.stats().workers, 0, "no database, no thread");
    let mut databases = Vec::new();
    for n in 1..=cpus() + 2 {
        let dir = root.path().join(n.to_string());
        databases.push(builder(&dir).worker_pool(&pool).build().unwrap());
        assert_eq!(pool.stats().workers, 2 * cpus().max(n));
        assert_eq!(databases[0].stats().pool.workers, 2 * cpus().max(n));
    }
    for (workers, workers_max, expected) in [(0, 1, 1), (3, 1, 3), (3, 256, 3)] {
        let pool = WorkerPool::new(workers, workers_max).unwrap();
        let dir = root.path().join(format!("{workers} {workers_max}"));
        let _db = builder(&dir).worker_pool(&pool).build().unwrap();
        assert_eq!(pool.stats().workers, expected, "{workers} {workers_max}");
    }
    assert_eq!(WorkerPool::new(257, 256).unwrap_err().code(), 3);
    assert_eq!(WorkerPool::new(0, 0).unwrap_err().code(), 3);
}

// D2: the settings of a file.
#[test]
fn databases_with_the_same_settings_share_a_pool() {
    let root = tempfile::tempdir().unwrap();
    let open = |name: &str, workers: u32| {
        let mut config = Config::default();
        config.sched.worker_count = workers;
        Db::builder(root.path().join(name)).config(config).build().unwrap()
    };
    let (first, second, other) = (open("a", 3), open("b", 3), open("c", 2));
    let names = |db: &Db| {
        let queues = db.stats().pool.queues;
        queues.into_iter().map(|queue| queue.name.rsplit('/').next().unwrap().to_owned())
    };
    assert!(names(&first).eq(["a", "b"]) && names(&second).eq(["a", "b"]));
    assert!(names(&other).eq(["c"]));
    assert_eq!((first.stats().pool.workers, other.stats().pool.workers), (3, 2));
    let alone = builder(&root.path().join("d")).async_compaction(false).build().unwrap();
    assert_eq!(alone.stats().pool.queues.len(), 0);
}
