//! The executive on the Linux platform, without any driver: one machine for all tests, since a process has one
//! executive. Each test runs host code as NT threads and calls the kernel functions that drivers import.

mod deferred;
mod machine;
mod memory;
mod threads;
