//! System calls that lead past Landlock, refused by seccomp(2): its rules for ports know connect(2) of plain TCP only.
//!
//! What is refused looks as if the kernel had not been built with it, so programs go on without.

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
/// A second table of system calls that x86-64 has: the same, with 32-bit pointers. A few have other numbers there.
const X32: i64 = 0x4000_0000;
const X32_SENDMSG: i64 = 518;
const X32_SENDMMSG: i64 = 538;

/// A system call, an argument of it, and the bits of that which are looked at, and are refused if they are the value.
type Call = (i64, Option<(u8, u64, i32)>);

/// Refuse them to this thread, and all that it starts. It must not be able to gain privileges.
pub(super) fn refuse() -> Result<(), seccompiler::Error> {
    let all = u64::from(u32::MAX);
    let protocols = PROTOCOLS.map(|protocol| (libc::SYS_socket, Some((2, all, protocol))));
    let family = [(libc::SYS_socket, Some((0, all, FAMILY)))];
    let fast_open = u64::from(FASTOPEN.unsigned_abs());
    let sends = [
        (libc::SYS_sendto, 3),
        (libc::SYS_sendmsg, 2),
        (libc::SYS_sendmmsg, 3),
    ];
    let sends = sends.map(|(call, flags)| (call, Some((flags, fast_open, FASTOPEN))));
    // It does what other calls do, where no filter looks.
    let ring = [(libc::SYS_io_uring_setup, None)];
    for (errno, calls) in [
        (libc::EPROTONOSUPPORT, &protocols[..]),
        (libc::EAFNOSUPPORT, &family),
        (libc::EOPNOTSUPP, &sends),
        (libc::ENOSYS, &ring),
    ] {
        apply_filter(&filter(errno, calls)?)?;
    }
    Ok(())
}

/// What lets `calls` fail with `errno`, and all others pass.
fn filter(errno: i32, calls: &[Call]) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for (call, argument) in calls {
        let condition = argument.map(|(index, mask, value)| {
            let masked = SeccompCmpOp::MaskedEq(mask);
            SeccompCondition::new(
                index,
                SeccompCmpArgLen::Dword,
                masked,
                u64::from(value.unsigned_abs()),
            )
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
        other => other,
    };
    vec![call, again | X32]
}
