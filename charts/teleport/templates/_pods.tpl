{{/* What pods and containers of all components share. Each takes (dict "root" $ "name" COMPONENT "values" VALUES). */}}

{{- define "teleport.image" -}}
{{- $image := .root.Values.image -}}
{{- if dig "repository" "" (default (dict) .override) -}}
{{- $image = .override -}}
{{- end -}}
{{- if get $image "digest" -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default .root.Chart.AppVersion (get $image "tag")) -}}
{{- end -}}
{{- end -}}

{{- define "teleport.podMetadata" -}}
# Without the chart's version: an upgrade that changes nothing else starts no pod anew.
labels:
  {{- include "teleport.selector" . | nindent 2 }}
  {{- with merge (dict) .values.podLabels .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  # A changed configuration starts the pods anew: teleport reads it when it starts.
  checksum/config: {{ include (printf "teleport.%sConfig" .config) .root | sha256sum }}
  {{- with merge (dict) .values.podAnnotations .root.Values.commonAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "teleport.podSettings" -}}
serviceAccountName: {{ include "teleport.serviceAccountName" . }}
# Only the operator talks to the API server, and is given its token by a volume of its own.
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .values.affinity }}
affinity:
  {{- toYaml .values.affinity | nindent 2 }}
{{- else if and (ne .values.antiAffinity "none") (ne (toString .values.kind) "DaemonSet") }}
affinity:
  podAntiAffinity:
    {{- if eq .values.antiAffinity "required" }}
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "teleport.selector" . | nindent 12 }}
    {{- else }}
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "teleport.selector" . | nindent 14 }}
    {{- end }}
{{- end }}
{{- end -}}

{{- define "teleport.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "teleport.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* One container's image and what the values add to it. */}}
{{- define "teleport.containerSettings" -}}
image: {{ include "teleport.image" (dict "root" .root "override" .values.image) }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
resources:
  {{- toYaml .values.resources | nindent 2 }}
{{- end -}}

{{/* The process works: else a new one is started. Joining and waiting for auth or the storage count as working. */}}
{{- define "teleport.probes" -}}
livenessProbe:
  httpGet: {path: /healthz, port: diag}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: diag}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 3
{{- end -}}

{{/* Where a member keeps its identity and what auth does not have yet; gone with the pod, which then joins anew. */}}
{{- define "teleport.memberVolumes" -}}
- name: config
  configMap:
    name: {{ include "teleport.component" . }}
- name: data
  emptyDir: {}
- name: tmp
  emptyDir: {}
- name: join
  secret:
    secretName: {{ include "teleport.joinSecret" . }}
    defaultMode: 0440
    # Both named: the pod waits for the operator to write them.
    items:
      - {key: token, path: token}
      - {key: caPin, path: caPin}
{{- end -}}

{{- define "teleport.memberMounts" -}}
- {name: config, mountPath: /etc/teleport.yaml, subPath: teleport.yaml, readOnly: true}
- {name: join, mountPath: /var/run/teleport/join, readOnly: true}
- {name: data, mountPath: /var/lib/teleport}
- {name: tmp, mountPath: /tmp}
{{- end -}}
