//! What the kernel knows of a process: CPU time of all its threads, memory, children.

use std::fs;

/// CPU time that all threads of these processes have used, in µs.
pub(crate) fn cpu_us(pids: &[u32]) -> f64 {
    let on_cpu = |path: std::path::PathBuf| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.split(' ')
            .next()
            .and_then(|nanoseconds| nanoseconds.parse::<f64>().ok())
            .unwrap_or_default()
            / 1000.0
    };
    let threads = pids
        .iter()
        .filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok())
        .flatten()
        .flatten();
    threads.map(|thread| on_cpu(thread.path().join("schedstat"))).sum()
}

/// A field of /proc/PID/status in KiB.
pub(crate) fn memory_kib(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// How many threads a process has.
pub(crate) fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// The processes whose parent is this one.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// How many threads of a process are traced at this moment.
pub(crate) fn traced_threads(pid: u32) -> usize {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .filter(|task| fs::read_to_string(task.path().join("status")).is_ok_and(|status| !status.contains("TracerPid:\t0\n")))
        .count()
}
