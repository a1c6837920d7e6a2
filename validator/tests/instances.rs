// SPDX-License-Identifier: MIT OR Apache-2.0
//! Locks that are built at one place and nested: the order of the objects counts.
#![cfg(feature = "lockdep")]

use lockdep::sync::{Mutex, RwLock};
use lockdep::{LockClass, ReportKind, Validator};

/// Accounts, all built at one place.
fn accounts(n: u32) -> Vec<Mutex<u32>> {
    (0..n).map(Mutex::new).collect()
}

fn transfer(from: &Mutex<u32>, to: &Mutex<u32>) {
    let (mut from, mut to) = (from.lock(), to.lock());
    *to += std::mem::take(&mut *from);
}

fn kinds(v: &Validator) -> Vec<ReportKind> {
    v.reports().iter().map(|report| report.kind()).collect()
}

#[test]
fn two_accounts_locked_in_both_orders_are_found_with_both_sides() {
    let bank = accounts(3);
    let v = Validator::new();
    v.scope(|| {
        transfer(&bank[0], &bank[1]);
        transfer(&bank[0], &bank[1]);
        transfer(&bank[1], &bank[2]);
        assert!(v.reports().is_empty());
        transfer(&bank[1], &bank[0]);
        transfer(&bank[1], &bank[0]);
    });
    assert_eq!(kinds(&v), [ReportKind::Recursive]);
    let report = &v.reports()[0];
    assert!(!report.is_certain());
    assert_eq!(report.edges.len(), 2);
    assert!(report.edges[0].new && !report.edges[1].new);
    assert_eq!(report.edges[0].from.lock.instance, report.edges[1].to.lock.instance);
    assert_eq!(report.edges[0].to.lock.instance, report.edges[1].from.lock.instance);
}

#[test]
fn a_contradiction_through_a_third_account_is_found() {
    let bank = accounts(3);
    let v = Validator::new();
    v.scope(|| {
        transfer(&bank[0], &bank[1]);
        transfer(&bank[1], &bank[2]);
        transfer(&bank[2], &bank[0]);
    });
    assert_eq!(kinds(&v), [ReportKind::Recursive]);
    assert_eq!(v.reports()[0].edges.len(), 3);
}

#[test]
fn a_tree_locked_parent_before_child_is_silent() {
    let tree = accounts(15);
    let v = Validator::new();
    v.scope(|| {
        for _ in 0..2 {
            for leaf in 7..15 {
                let path = [0, (leaf - 3) / 4, (leaf - 1) / 2, leaf];
                let _guards: Vec<_> = path.iter().skip(1).map(|node| tree[*node].lock()).collect();
            }
        }
    });
    assert_eq!(kinds(&v), []);
}

#[test]
fn a_lock_dropped_in_the_middle_of_a_chain_loses_no_evidence() {
    let mut bank = accounts(3);
    let v = Validator::new();
    v.scope(|| {
        transfer(&bank[0], &bank[1]);
        transfer(&bank[1], &bank[2]);
        drop(bank.remove(1));
        transfer(&bank[1], &bank[0]);
    });
    assert_eq!(kinds(&v), [ReportKind::Recursive]);
}

#[test]
fn a_lock_that_moves_stays_the_same_lock() {
    let mut bank = accounts(2);
    let v = Validator::new();
    v.scope(|| {
        transfer(&bank[0], &bank[1]);
        bank.reverse();
        transfer(&bank[0], &bank[1]);
    });
    assert_eq!(kinds(&v), [ReportKind::Recursive], "the same two, the other way round");
}

#[test]
fn a_reused_address_is_a_new_lock() {
    let v = Validator::new();
    v.scope(|| {
        let first = Mutex::new(0);
        let mut slot = Box::new(Mutex::new(0));
        transfer(&first, &slot);
        let address = std::ptr::from_ref(&*slot);
        *slot = Mutex::new(0);
        assert_eq!(address, std::ptr::from_ref(&*slot));
        transfer(&slot, &first);
    });
    assert_eq!(kinds(&v), []);
}

#[test]
fn locks_that_are_gone_leave_nothing_behind() {
    let v = Validator::new();
    v.scope(|| {
        let root = accounts(1);
        for _ in 0..if cfg!(miri) { 5 } else { 100 } {
            let nodes = accounts(4);
            transfer(&nodes[0], &nodes[1]);
            transfer(&nodes[1], &nodes[2]);
            transfer(&nodes[2], &nodes[3]);
        }
        drop(root);
    });
    assert_eq!(v.with_engine(|engine| engine.instances().len()), 0);
}

#[test]
fn readers_of_two_locks_in_both_orders_count_as_writers_may_wait_between() {
    let shards: Vec<RwLock<u32>> = (0..2).map(RwLock::new).collect();
    let v = Validator::new();
    v.scope(|| {
        drop((shards[0].read(), shards[1].read()));
        drop((shards[1].read(), shards[0].read()));
    });
    assert_eq!(kinds(&v), [ReportKind::Recursive]);
    let v = Validator::new();
    v.scope(|| {
        drop((shards[0].read_recursive(), shards[1].read_recursive()));
        drop((shards[1].read_recursive(), shards[0].read_recursive()));
    });
    assert_eq!(kinds(&v), []);
}

#[test]
fn a_strict_class_has_the_kernels_rule() {
    static STRICT: LockClass = LockClass::new("strict").strict();
    let bank: Vec<Mutex<u32>> = (0..2).map(|i| Mutex::with_class(&STRICT, i)).collect();
    let v = Validator::new();
    v.scope(|| transfer(&bank[0], &bank[1]));
    assert_eq!(kinds(&v), [ReportKind::Recursive]);
}

#[test]
fn a_subclass_does_not_hide_that_two_locks_are_taken_in_both_orders() {
    static STRICT: LockClass = LockClass::new("strict").strict();
    let bank: Vec<Mutex<u32>> = (0..2).map(|i| Mutex::with_class(&STRICT, i)).collect();
    let v = Validator::new();
    v.scope(|| {
        drop((bank[0].lock(), bank[1].lock_nested(1)));
        drop((bank[1].lock(), bank[0].lock_nested(1)));
    });
    assert_eq!(kinds(&v), [ReportKind::Recursive]);
}

#[test]
fn known_pairs_do_not_go_to_the_engine_again() {
    let bank = accounts(2);
    let v = Validator::new();
    v.scope(|| {
        transfer(&bank[0], &bank[1]);
        let events = v.with_engine(|engine| engine.counters().events);
        for _ in 0..100 {
            transfer(&bank[0], &bank[1]);
        }
        assert_eq!(v.with_engine(|engine| engine.counters().events), events);
    });
}
