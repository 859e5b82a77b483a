//! How much memory the process has held at most.

/// Where [`peak_bytes`] has its number from; `None` where it has none.
pub const SOURCE: Option<&str> =
    if cfg!(target_os = "linux") { Some("VmHWM in /proc/self/status") } else { None };

/// Most memory that was resident at once since the process began, in bytes; `None` where the system does not tell, or
/// not in a way that is known here.
pub fn peak_bytes() -> Option<u64> {
    SOURCE?;
    high_water_mark(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// The high-water mark in a status file of Linux: a line like `VmHWM:    123456 kB`.
fn high_water_mark(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read_in_kibibytes() {
        let check =
            |status: &str, expected: Option<u64>| assert_eq!(high_water_mark(status), expected, "{status}");
        check("Name:\txtask\nVmPeak:\t  999 kB\nVmHWM:\t   12 kB\nVmRSS:\t    8 kB\n", Some(12 * 1024));
        check("Name:\txtask\nVmPeak:\t  999 kB\n", None);
        check("VmHWM:\t many kB\n", None);
        check("VmHWM:\t 12 MB\n", None);
        check("VmHWM:\t 18446744073709551615 kB\n", None);
        check("", None);
    }

    #[test]
    fn memory_that_was_held_counts_after_it_was_given_back() {
        let Some(before) = peak_bytes() else { return assert_eq!(SOURCE, None) };
        let held = before as usize + (8 << 20);
        drop(std::hint::black_box(vec![1_u8; held]));
        assert!(peak_bytes().is_some_and(|after| after as usize >= held));
    }
}
