"""Prometheus metrics of the hub and the agent, under the names that dashboards and alerts build on."""

from prometheus_client import Counter, Gauge, Histogram

INGEST_LAG = Gauge("federation_ingest_lag_records", "Records not yet folded", ["source"])
EVENTS = Counter("federation_events_total", "Records taken from the log", ["outcome"])
VIEW_AGE = Gauge("federation_view_age_seconds", "Age of the last event folded, for each cluster", ["cluster"])
DECISIONS = Counter("federation_decisions_total", "Decisions committed", ["outcome"])
CONFLICTS = Counter("federation_conflicts_total", "Decisions dropped since what they rested on had changed")
HELD = Gauge("federation_held_replicas", "Replicas decided and not yet observed on a node")
LOOP_LAG = Gauge("federation_loop_lag_seconds", "How late the event loop last was")
ACTION = Histogram("federation_action_seconds", "From the decision to the order on the wire")
ORDERS = Counter("federation_orders_total", "Orders published", ["kind"])
CYCLE = Histogram("federation_cycle_seconds", "One scheduling cycle")
FAILURES = Counter("federation_worker_failures_total", "Times a loop failed and was started again", ["worker"])
RESTARTS = Counter("federation_consumer_restarts_total", "Times the watchdog made a consumer anew")
