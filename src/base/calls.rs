//! System calls that lead past Landlock, refused by seccomp(2): its rules for ports know connect(2) of plain TCP only, and it
//! has none for the limits and priorities of other processes, nor for what is typed into a terminal.
//!
//! Another way to a port looks as if the kernel had not been built with it, so programs go on without.

use std::{collections::BTreeMap, env::consts::ARCH};

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

/// Protocols that carry TCP under another name, see socket(2): MPTCP and SMC. Linux falls back to TCP where the other end has
/// neither.
const PROTOCOLS: [i32; 2] = [libc::IPPROTO_MPTCP, 256];
/// SMC, as a family.
const FAMILY: i32 = 43;
/// Connects while it sends (TCP Fast Open).
const FASTOPEN: i32 = libc::MSG_FASTOPEN;
/// `TIOCSTI` and `TIOCLINUX`, see ioctl_tty(2).
const TYPING: [i32; 2] = [0x5412, 0x541c];
/// A second table of system calls that x86-64 has: the same, with 32-bit pointers. A few have other numbers there.
const X32: i64 = 0x4000_0000;
const X32_SENDMSG: i64 = 518;
const X32_SENDMMSG: i64 = 538;

const X32_IOCTL: i64 = 514;
/// All bits of an argument that is an int.
const ALL: u64 = u32::MAX as u64;

/// A system call, and an argument of it with which it is refused; without one, it always is.
type Call = (i64, Option<(u8, Argument)>);

/// What an argument is.
#[derive(Clone, Copy)]
enum Argument {
    /// These bits of it are this value.
    Is(u64, i32),
    /// It names a process, or a group of them, and not the one that calls.
    Another,
}
use Argument::{Another, Is};

/// Refuse them to this thread, and all that it starts. It must not be able to gain privileges.
pub fn refuse() -> Result<(), seccompiler::Error> {
    let protocols = PROTOCOLS.map(|protocol| (libc::SYS_socket, Some((2, Is(ALL, protocol)))));
    let family = [(libc::SYS_socket, Some((0, Is(ALL, FAMILY))))];
    let fast_open = u64::from(FASTOPEN.unsigned_abs());
    let sends = [
        (libc::SYS_sendto, 3),
        (libc::SYS_sendmsg, 2),
        (libc::SYS_sendmmsg, 3),
    ];
    let sends = sends.map(|(call, flags)| (call, Some((flags, Is(fast_open, FASTOPEN)))));
    // It does what other calls do, where no filter looks. EPERM is what an administrator's `io_uring_disabled` gives.
    let ring = [(libc::SYS_io_uring_setup, None)];
    let others = [
        (libc::SYS_prlimit64, 0),
        (libc::SYS_setpriority, 1),
        (libc::SYS_ioprio_set, 1),
        (libc::SYS_sched_setaffinity, 0),
        (libc::SYS_sched_setattr, 0),
        (libc::SYS_sched_setparam, 0),
        (libc::SYS_sched_setscheduler, 0),
    ];
    let others = others.map(|(call, process)| (call, Some((process, Another))));
    // Types for the next reader of the terminal.
    let typing = TYPING.map(|request| (libc::SYS_ioctl, Some((1, Is(ALL, request)))));
    // One filter for each answer: each has its price at each call.
    let closed = [&others[..], &typing, &ring].concat();
    for (errno, calls) in [
        (libc::EPROTONOSUPPORT, [&protocols[..], &family].concat()),
        (libc::EOPNOTSUPP, sends.to_vec()),
        (libc::EPERM, closed),
    ] {
        apply_filter(&filter(errno, &calls)?)?;
    }
    Ok(())
}

/// What lets `calls` fail with `errno`, and all others pass.
fn filter(errno: i32, calls: &[Call]) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for (call, argument) in calls {
        let condition = argument.map(|(index, argument)| {
            let (operator, value) = match argument {
                Is(mask, value) => (SeccompCmpOp::MaskedEq(mask), u64::from(value.unsigned_abs())),
                Another => (SeccompCmpOp::Ne, 0),
            };
            SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)
        });
        let condition = condition.transpose()?;
        for number in numbers(*call) {
            let rules = rules.entry(number).or_default();
            if let Some(condition) = condition.clone() {
                rules.push(SeccompRule::new(vec![condition])?);
            }
        }
    }
    let refused = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, refused, TargetArch::try_from(ARCH)?)?.try_into()
}

/// All numbers of `call` on this machine.
fn numbers(call: i64) -> Vec<i64> {
    let again = match call {
        _ if !cfg!(target_arch = "x86_64") => return vec![call],
        libc::SYS_sendmsg => X32_SENDMSG,
        libc::SYS_sendmmsg => X32_SENDMMSG,
        libc::SYS_ioctl => X32_IOCTL,
        other => other,
    };
    vec![call, again | X32]
}
