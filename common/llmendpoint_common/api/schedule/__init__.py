"""The resource LoadTestSchedule: `spec` has the whole, `cron` the times, and `status` the status."""
