"""To whom the event log is passed on (`runtime.audit.outlet`): stdout, syslog, a webhook. Each event at least once."""
