//! CPU time and peak memory of this process.

use crate::Fallible;

/// Seconds of CPU time so far, of all threads, also of those that have ended.
pub fn cpu_seconds() -> Fallible<f64> {
    Ok(cpu_time::ProcessTime::try_now()?.as_duration().as_secs_f64())
}

/// The highest resident memory so far, in bytes.
pub fn peak_bytes() -> Fallible<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0)
}
