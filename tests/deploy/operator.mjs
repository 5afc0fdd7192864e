// Validates the Prometheus Operator's resources by the operator's own types: node operator.mjs < RESOURCES, a JSON list.
import { readFileSync } from "node:fs";
import { PodMonitor, PrometheusRule } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const kinds = { PodMonitor, PrometheusRule };
let seen = 0;
for (const resource of JSON.parse(readFileSync(0, "utf8"))) {
  if (!resource.apiVersion.startsWith("monitoring.coreos.com/")) continue;
  const Kind = kinds[resource.kind];
  if (!Kind) throw new Error(`nothing validates a ${resource.kind}`);
  new Kind(resource).validate();
  seen += 1;
}
if (seen === 0) throw new Error("there is no resource of the Prometheus Operator");
console.log(`the Prometheus Operator's types: ${seen} resources are valid`);
