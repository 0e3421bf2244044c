/**
 * Types of the dashboard's API, as the package `contract` defines them. Times are Unix times in seconds, durations are seconds.
 *
 * @typedef {{p50: number, p95: number, p99: number}} Percentiles
 *
 * @typedef {object} Source
 * @property {string} name
 * @property {string} url
 * @property {boolean} simulated
 * @property {"ok" | "stale" | "down"} state
 * @property {number | null} lastSeen
 * @property {string} message
 *
 * @typedef {object} About
 * @property {string} version
 * @property {"machine" | "cluster"} mode
 * @property {boolean} prometheus
 * @property {string} prometheusMessage
 * @property {boolean} canStartLoadTests
 * @property {boolean} hasLoadKey
 * @property {string} cluster
 * @property {Source[]} sources
 *
 * @typedef {object} Traffic
 * @property {string} [model]
 * @property {string} [tenant]
 * @property {number} promptTokensPerSecond
 * @property {number} generationTokensPerSecond
 * @property {number} requestsPerSecond
 * @property {number | null} running
 * @property {number | null} waiting
 * @property {Percentiles | null} ttft
 * @property {Percentiles | null} interChunk
 * @property {Record<string, number>} outcomes
 *
 * @typedef {object} Overview
 * @property {number} time
 * @property {number} windowSeconds
 * @property {Traffic} total
 * @property {Traffic[]} models
 * @property {Traffic[]} tenants
 *
 * @typedef {{completedBytes: number, totalBytes: number, bytesPerSecond: number, secondsLeft: number | null}} Pull
 *
 * @typedef {object} ModelRow
 * @property {string} key
 * @property {string} source
 * @property {string} name
 * @property {string} state
 * @property {string} digest
 * @property {number | null} sizeBytes
 * @property {number | null} vramBytes
 * @property {number | null} gpuShare
 * @property {number | null} contextLength
 * @property {number | null} expires
 * @property {Pull | null} pull
 * @property {number} loads
 * @property {boolean} loadedBefore
 * @property {number} evictions
 * @property {string} message
 *
 * @typedef {{type: string, status: string, reason: string, message: string, lastTransitionTime: string}} Condition
 *
 * @typedef {object} EndpointRow
 * @property {string} key
 * @property {string} namespace
 * @property {string} name
 * @property {string} ready
 * @property {string} reason
 * @property {string} message
 * @property {string} url
 * @property {string[]} models
 * @property {number} replicas
 * @property {number} readyReplicas
 * @property {string} gpu
 * @property {Condition[]} conditions
 * @property {string} advice
 *
 * @typedef {{text: string, measured: string, met: boolean | null}} Objective
 *
 * @typedef {object} LoadTestRow
 * @property {string} key
 * @property {string} name
 * @property {"machine" | "cluster"} origin
 * @property {string} namespace
 * @property {"waiting" | "running" | "ended"} state
 * @property {number | null} started
 * @property {number | null} ended
 * @property {string} target
 * @property {string} model
 * @property {string} load
 * @property {number} percent
 * @property {string} awaiting
 * @property {number} inFlight
 * @property {number} requests
 * @property {number} errors
 * @property {number | null} requestsPerSecond
 * @property {Objective[]} objectives
 * @property {string} verdict
 * @property {string} reason
 * @property {string} message
 * @property {Percentiles | null} ttft
 * @property {boolean} hasReport
 * @property {string} reportCommand
 * @property {boolean} canStop
 *
 * @typedef {object} RequestRow
 * @property {string} key
 * @property {number} time
 * @property {string} source
 * @property {string} requestId
 * @property {string} model
 * @property {string} tenant
 * @property {string} operation
 * @property {number} code
 * @property {string} outcome
 * @property {number} duration
 * @property {number | null} ttft
 * @property {number | null} queue
 * @property {number | null} load
 * @property {number | null} prefill
 * @property {number | null} decode
 * @property {number | null} promptTokens
 * @property {number | null} generationTokens
 *
 * @typedef {object} FindingRow
 * @property {string} key
 * @property {"error" | "warning" | "info"} severity
 * @property {string} subject
 * @property {string} cause
 * @property {string} sentence
 * @property {string} advice
 * @property {string} command
 *
 * @typedef {{name: string, outcome?: string, values: (number | null)[]}} Series
 * @typedef {{range: string, step: number, source: "sidecars" | "prometheus", message: string, times: number[], series: Series[]}} History
 *
 * @typedef {{name: string, unit: string, a: number | null, b: number | null, change: number | null,
 *   better: "a" | "b" | null}} ComparedMetric
 * @typedef {{a: LoadTestRow, b: LoadTestRow, metrics: ComparedMetric[], differences: string[], message: string, command: string}} Comparison
 * @typedef {{row: LoadTestRow, summary: Record<string, any> | null}} LoadTestDetail
 * @typedef {{name: string, description: string}} Preset
 * @typedef {{manifest: string, command: string, local: string}} Manifest
 */
export {};
