//! xenvbd.sys
#![no_std]
#![no_main]
