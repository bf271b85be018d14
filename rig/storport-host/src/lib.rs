//! storport.sys as a miniport sees it.
#![no_std]
