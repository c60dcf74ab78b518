package main_test

import "syscall"

// dieWithTest lets the kernel kill a process when the thread that started it
// ends, however that ends.
func dieWithTest() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
